# Sections C (Elixir's part), Y, Q: specs, dynamic supervisors, partitions.

defmodule Words do
  @moduledoc "What the rows are written in."
  def log(log, event), do: :log.add(log, event)
  def taken(log), do: :log.take(log)
  def word(reason), do: :tree.word(reason)

  def answer({:ok, :undefined}), do: :ignore
  def answer({:ok, pid}) when is_pid(pid), do: :pid
  def answer({:error, {:already_started, _}}), do: :already_started
  def answer({:error, {:already_registered, _}}), do: :already_registered
  def answer({:error, word}) when is_atom(word), do: word
  def answer({:error, _}), do: :error
  def answer(other), do: other

  def finish(pid, reason) do
    :tree.finish(pid, reason)
  end

  def raised(fun) do
    fun.()
    :ok
  rescue
    error -> error.__struct__ |> Module.split() |> List.last()
  catch
    :exit, {reason, _} -> "exit #{word(reason)}"
    :exit, reason -> "exit #{word(reason)}"
  end

  def ended(pid) do
    ref = Process.monitor(pid)
    receive do
      {:DOWN, ^ref, _, _, reason} -> word(reason)
    after
      1000 -> :alive
    end
  end

  def spec(name, log, more \\ %{}) do
    {fields, options} = Map.split(more, [:restart, :shutdown, :id])
    Map.merge(
      %{id: String.to_atom(name), start: {:worker, :start_link, [Map.merge(options, %{name: String.to_charlist(name), log: log})]}},
      fields
    )
  end
end

defmodule Plain do
  @moduledoc "A child with the default child_spec."
  use Agent
  def start_link(arg), do: Agent.start_link(fn -> arg end)
end

defmodule RowsElixir do
  import Words

  def rows do
    [
      C03: &c03/1, C24: &c24/1, C25: &c25/1, C26: &c26/1,
      Y01: &y01/1, Y02: &y02/1, Y03: &y03/1, Y04: &y04/1, Y05: &y05/1, Y06: &y06/1, Y07: &y07/1, Y08: &y08/1,
      Y09: &y09/1, Y10: &y10/1, Y11: &y11/1, Y12: &y12/1, Y13: &y13/1, H19: &h19/1, L09: &l09/1, T12: &t12/1, Q01: &q01/1, Q02: &q02/1
    ]
  end

  def c03(_) do
    {:ok, {flags, []}} = Supervisor.init([], strategy: :one_for_one)
    Map.take(flags, [:intensity, :period, :auto_shutdown])
  end

  def c24(_) do
    tuple = Supervisor.child_spec({Plain, 1}, [])
    %{id: inspect(tuple.id), bare: inspect(Supervisor.child_spec(Plain, []).id),
      missing: raised(fn -> Supervisor.init([NoSuchModule], strategy: :one_for_one) end),
      no_child_spec: raised(fn -> Supervisor.init([{String, 1}], strategy: :one_for_one) end)}
  end

  def c25(_) do
    spec = Supervisor.child_spec({Plain, 1}, id: :x, restart: :transient)
    %{id: spec.id, restart: spec.restart, unknown: raised(fn -> Supervisor.child_spec({Plain, 1}, colour: :red) end)}
  end

  def c26(_), do: raised(fn -> Supervisor.init([], []) end)

  # --- Y

  def dynamic(options \\ []) do
    {:ok, sup} = DynamicSupervisor.start_link([strategy: :one_for_one] ++ options)
    sup
  end

  def start(sup, spec), do: DynamicSupervisor.start_child(sup, spec)
  def counts(sup), do: DynamicSupervisor.count_children(sup)

  def y01(_), do: DynamicSupervisor.start_link(strategy: :one_for_all) |> :encode.error_word()

  def y02(log) do
    sup = dynamic()
    answers = for _ <- 1..2, do: answer(start(sup, spec("a", log)))
    %{answers: answers, ids: for({id, _, _, _} <- DynamicSupervisor.which_children(sup), do: id)}
  end

  def y03(log) do
    sup = dynamic(max_children: 1)
    first = answer(start(sup, spec("a", log)))
    second = answer(start(sup, spec("b", log)))
    none = answer(start(dynamic(max_children: 0), spec("c", log)))
    %{first: first, second: second, none: none, counts: counts(sup)}
  end

  def y04(log) do
    starts = %{ignore: :ignore, stop: {:fail, :bad}, raise: :raise, garbage: :garbage}
    for {name, does} <- starts, into: %{} do
      sup = dynamic()
      {name, %{answer: answer(start(sup, spec("a", log, %{does: does}))), counts: counts(sup)}}
    end
  end

  def y05(_), do: answer(start(:not_used, %{id: :a}))

  def y06(log) do
    parent = self()
    sup = dynamic(extra_arguments: [:extra])
    fun = fn extra, own -> send(parent, {:args, [extra, own]}); :worker.start_link(%{name: 'a', log: log}) end
    {:ok, pid} = start(sup, %{id: :a, start: {Kernel, :apply, [fun]}} |> put_in([:start], {__MODULE__, :extra, [fun]}))
    finish(pid, :boom)
    DynamicSupervisor.which_children(sup)
    for _ <- 1..2, do: receive(do: ({:args, args} -> args))
  end

  def extra(first, fun), do: fun.(first, :own)

  def y07(log) do
    sup = dynamic(max_restarts: 0)
    {:ok, pid} = start(sup, spec("a", log))
    first = DynamicSupervisor.terminate_child(sup, pid)
    %{first: first, again: answer(DynamicSupervisor.terminate_child(sup, pid)), counts: counts(sup), log: taken(log)}
  end

  def y08(_) do
    {:ok, flags} = DynamicSupervisor.init(strategy: :one_for_one)
    Map.take(flags, [:intensity, :period, :max_children])
  end

  def y09(log) do
    sup = dynamic(max_restarts: 2)
    start(sup, spec("z", log))
    start(sup, spec("a", log, %{register: :crasher}))
    taken(log)
    alive = for _ <- 1..3 do
      finish(Process.whereis(:crasher), :boom)
      answers?(sup)
    end
    %{alive: alive, exit: ended_by_link(sup), log: taken(log)}
  end

  def answers?(sup) do
    is_list(DynamicSupervisor.which_children(sup))
  catch
    :exit, _ -> false
  end

  def ended_by_link(pid), do: receive(do: ({:EXIT, ^pid, reason} -> word(reason)))

  def y10(log) do
    sup = dynamic()
    {:ok, pid} = start(sup, spec("a", log, %{script: :tree.script([:up, :ignore])}))
    finish(pid, :boom)
    %{counts: counts(sup), log: taken(log)}
  end

  def y11(log) do
    sup = dynamic()
    for name <- ["a", "b", "c"], do: start(sup, spec(name, log, %{slow: 100}))
    taken(log)
    Process.unlink(sup)
    Supervisor.stop(sup, :shutdown)
    for <<first::binary-size(1), _::binary>> <- taken(log), do: first
  end

  def h19(log) do
    sup = dynamic()
    for {name, time} <- [{"a", 500}, {"b", :infinity}, {"c", 20}], do: start(sup, spec(name, log, %{slow: 100, shutdown: time}))
    taken(log)
    Process.unlink(sup)
    Supervisor.stop(sup, :shutdown)
    events = taken(log)
    {begun, ended} = Enum.split(events, 3)
    %{begun: Enum.sort(begun), ended: Enum.sort(ended)}
  end

  def y12(log) do
    sup = dynamic()
    start(sup, spec("a", log))
    send(sup, :what_is_this)
    counts(sup)
  end

  def y13(log) do
    child = %{id: :inner, type: :supervisor, start: {DynamicSupervisor, :start_link, [[strategy: :one_for_one]]}}
    outer = :tree.start(%{}, [child])
    inner = :tree.child(outer, :inner)
    start(inner, spec("a", log))
    Process.exit(inner, :kill)
    ended(inner)
    :tree.sync(outer)
    counts(:tree.child(outer, :inner))
  end

  def l09(log) do
    sup = dynamic(max_children: 1, max_restarts: 1_000_000)
    {:ok, pid} = start(sup, spec("a", log, %{script: :tree.script([:up, {:fail, :bad}])}))
    finish(pid, :boom)
    states = for {_, state, _, _} <- DynamicSupervisor.which_children(sup), do: state
    full = answer(start(sup, spec("b", log)))
    stopped = DynamicSupervisor.terminate_child(sup, pid)
    %{states: states, full: full, terminate: stopped, counts: counts(sup)}
  end

  def t12(log) do
    sup = dynamic()
    {:ok, pid} = start(sup, spec("a", log))
    finish(pid, :normal)
    other = DynamicSupervisor.which_children(sup)
    [{_, again, _, _}] = other
    %{by_ref: DynamicSupervisor.terminate_child(sup, again), dead: answer(DynamicSupervisor.terminate_child(sup, again)),
      stranger: answer(DynamicSupervisor.terminate_child(sup, self()))}
  end

  def partitions(log, name) do
    child = %{id: :part, start: {:worker, :start_link, [%{name: "p", log: log}]}}
    {:ok, _} = PartitionSupervisor.start_link(child_spec: child, name: name, partitions: 3)
    name
  end

  def places(name) do
    Map.new(PartitionSupervisor.which_children(name), fn {id, pid, _, _} -> {id, pid} end)
  end

  def q01(log) do
    name = partitions(log, :by_number)
    ids = Map.new(places(name), fn {id, pid} -> {pid, id} end)

    for key <- [0, 1, 2, 3, 7, -1, -3, -5], into: %{} do
      {Integer.to_string(key), ids[GenServer.whereis({:via, PartitionSupervisor, {name, key}})]}
    end
  end

  def q02(log) do
    name = partitions(log, :by_crash)
    before = places(name)
    finish(before[1], :boom)
    :tree.sync(Process.whereis(name))
    again = places(name)
    %{ids: Enum.sort(Map.keys(again)), same: for(id <- 0..2, do: again[id] == before[id])}
  end
end
