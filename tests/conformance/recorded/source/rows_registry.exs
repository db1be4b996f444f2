# Section G: registries.

defmodule RowsRegistry do
  import Words

  def rows do
    [
      G01: &g01/1, G02: &g02/1, G03: &g03/1, G04: &g04/1, G06: &g06/1, G07: &g07/1, G08: &g08/1, G09: &g09/1,
      G10: &g10/1, G11: &g11/1, G12: &g12/1, G13: &g13/1, G14: &g14/1, G15: &g15/1, G16: &g16/1, G17: &g17/1,
      G19: &g19/1, G22: &g22/1
    ]
  end

  def registry(keys) do
    name = String.to_atom("reg#{System.unique_integer([:positive])}")
    {:ok, _} = Registry.start_link(keys: keys, name: name)
    name
  end

  # A process that registers what it is told to, and lives until it is told to end.
  def owner do
    spawn(fn -> own() end)
  end

  defp own do
    receive do
      {from, ref, fun} -> send(from, {ref, fun.()}); own()
      :crash -> exit(:boom)
    end
  end

  def within(pid, fun) do
    ref = make_ref()
    send(pid, {self(), ref, fun})
    receive(do: ({^ref, result} -> result))
  end

  def crash(pid) do
    send(pid, :crash)
    ended(pid)
  end

  def reg(answer), do: if(match?({:ok, _}, answer), do: :ok, else: answer(answer))

  def g01(_) do
    r = registry(:unique)
    a = owner()
    first = reg(Registry.register(r, "k", 1))
    %{first: first, self: reg(Registry.register(r, "k", 2)), other: within(a, fn -> reg(Registry.register(r, "k", 3)) end),
      values: for({_, v} <- Registry.lookup(r, "k"), do: v)}
  end

  def g02(_) do
    r = registry(:unique)
    Registry.register(r, "k", 1)
    %{there: for({pid, v} <- Registry.lookup(r, "k"), do: [pid == self(), v]), missing: Registry.lookup(r, "x")}
  end

  def g03(_) do
    r = registry(:unique)
    a = owner()
    within(a, fn -> Registry.register(r, "k", 1) end)
    answers = [Registry.unregister(r, "k"), Registry.unregister(r, "nothing")]
    still = length(Registry.lookup(r, "k"))
    within(a, fn -> Registry.unregister(r, "k") end)
    %{answers: answers, of_another_stays: still, own_goes: length(Registry.lookup(r, "k"))}
  end

  def g04(_) do
    r = registry(:unique)
    a = owner()
    within(a, fn -> for k <- ["x", "y"], do: Registry.register(r, k, 1) end)
    crash(a)
    Process.sleep(20)
    for k <- ["x", "y"], do: length(Registry.lookup(r, k))
  end

  def g06(_) do
    r = registry(:unique)
    for _ <- 1..50 do
      a = owner()
      within(a, fn -> Registry.register(r, "k", 1) end)
      crash(a)
      Registry.whereis_name({r, "k"})
    end |> Enum.uniq()
  end

  def g07(_) do
    r = registry(:unique)
    for _ <- 1..50 do
      a = owner()
      within(a, fn -> Registry.register(r, "k", 1) end)
      crash(a)
      answer = reg(Registry.register(r, "k", 2))
      Registry.unregister(r, "k")
      answer
    end |> Enum.uniq()
  end

  def g08(_) do
    r = registry(:unique)
    name = {:via, Registry, {r, "k"}}
    for _ <- 1..2, do: answer(Agent.start_link(fn -> 1 end, name: name))
  end

  def g09(_) do
    r = registry(:unique)
    Agent.start_link(fn -> 1 end, name: {:via, Registry, {r, "k", :its_value}})
    for {_, v} <- Registry.lookup(r, "k"), do: v
  end

  def g10(_) do
    r = registry(:unique)
    name = {:via, Registry, {r, "nobody"}}
    %{call: raised(fn -> GenServer.call(name, :hello) end), cast: GenServer.cast(name, :hello), whereis: GenServer.whereis(name)}
  end

  def g11(_) do
    r = registry(:unique)
    a = owner()
    Registry.register(r, "k", 1)
    own = Registry.update_value(r, "k", &(&1 + 1))
    d = registry(:duplicate)
    Registry.register(d, "k", 1)
    %{own: Tuple.to_list(own), of_another: within(a, fn -> Registry.update_value(r, "k", &(&1 + 1)) end),
      unknown: Registry.update_value(r, "x", &(&1 + 1)), duplicate: raised(fn -> Registry.update_value(d, "k", & &1) end)}
  end

  def g12(_) do
    r = registry(:unique)
    for k <- [1, 1.0], do: reg(Registry.register(r, k, k))
  end

  def g13(_) do
    r = registry(:duplicate)
    a = owner()
    for v <- [1, 2], do: Registry.register(r, "k", v)
    within(a, fn -> Registry.register(r, "k", 3) end)
    before = Enum.sort(for {_, v} <- Registry.lookup(r, "k"), do: v)
    Registry.unregister(r, "k")
    %{before: before, left: for({_, v} <- Registry.lookup(r, "k"), do: v)}
  end

  def g14(_) do
    r = registry(:duplicate)
    for v <- [1, 2], do: Registry.register(r, "k", v)
    parent = self()
    Registry.dispatch(r, "k", fn entries -> send(parent, {:called, Enum.sort(for {_, v} <- entries, do: v)}) end)
    Registry.dispatch(r, "empty", fn _ -> send(parent, {:called, :empty}) end)
    %{calls: drain(), raises: raised(fn -> Registry.dispatch(r, "k", fn _ -> raise "no" end) end)}
  end

  def drain do
    receive do
      {:called, what} -> [what | drain()]
    after
      0 -> []
    end
  end

  def g15(_) do
    r = registry(:duplicate)
    Process.flag(:trap_exit, true)
    raised(fn -> {:ok, _} = Agent.start_link(fn -> 1 end, name: {:via, Registry, {r, "k"}}) end)
  end

  def g16(_) do
    r = registry(:duplicate)
    for {k, v} <- [a: 1, a: 2, b: 3], do: Registry.register(r, k, v)
    large = [{{:"$1", :_, :"$2"}, [{:>, :"$2", 1}], [{{:"$1", :"$2"}}]}]
    selected = Registry.select(r, large) |> Enum.map(&Tuple.to_list/1) |> Enum.sort()
    count = Registry.count_match(r, :a, :_)
    Registry.unregister_match(r, :a, 1)
    %{select: selected, count: count, count_all: Registry.count(r), left: for({_, v} <- Registry.lookup(r, :a), do: v)}
  end

  def g17(_) do
    Process.register(self(), :a_listener)
    name = String.to_atom("reg#{System.unique_integer([:positive])}")
    {:ok, _} = Registry.start_link(keys: :unique, name: name, listeners: [:a_listener])
    a = owner()
    within(a, fn -> Registry.register(name, "k", 1); Registry.unregister(name, "k") end)
    for _ <- 1..2 do
      receive do
        {:register, ^name, key, _, value} -> [:register, key, value]
        {:unregister, ^name, key, _} -> [:unregister, key]
      end
    end
  end

  def g19(_), do: raised(fn -> Registry.lookup(:no_such_registry, "k") end)

  def g22(_) do
    r = registry(:unique)
    before = Registry.meta(r, :colour)
    Registry.put_meta(r, :colour, :red)
    %{before: before, after: Registry.meta(r, :colour) |> Tuple.to_list()}
  end
end
