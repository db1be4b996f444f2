"""HTTP behind two methods: `base` says what a transport is, `choose` picks one, the others are one client each."""
