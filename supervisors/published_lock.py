"""`PublishedLock`: guards what is published: tables and numbers that any thread reads and writes for a moment.

The same thread may take it again. Wherever Python code runs, also under a lock, the garbage collector may end a
coroutine that somebody has dropped, and what a call does at its end (free its place, take back its timer, settle its
permit) comes in between. With a plain lock that thread would wait for itself for ever. So what is guarded has to be
whole whenever a function is called or an object made.
"""

from threading import RLock

PublishedLock = RLock
