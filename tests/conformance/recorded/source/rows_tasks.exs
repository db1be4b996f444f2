# Section J: tasks.

defmodule RowsTasks do
  import Words

  def rows do
    [
      J01: &j01/1, J02: &j02/1, J03: &j03/1, J04: &j04/1, J05: &j05/1, J06: &j06/1, J07: &j07/1, J08: &j08/1,
      J09: &j09/1, J10: &j10/1, J11: &j11/1, J12: &j12/1, J13: &j13/1, J14: &j14/1, J15: &j15/1, J16: &j16/1,
      J17: &j17/1, J18: &j18/1, J19: &j19/1, J20: &j20/1, J21: &j21/1, J22: &j22/1, J23: &j23/1, J24: &j24/1
    ]
  end

  def sup(options \\ []) do
    {:ok, sup} = Task.Supervisor.start_link(options)
    sup
  end

  # A task that waits for `:go`, then does what it is told.
  def held(fun \\ fn -> :done end), do: fn -> receive(do: (:go -> fun.())) end

  def outcome({:ok, value}), do: [:ok, value]
  def outcome({:exit, {:timeout, _}}), do: [:exit, :timeout]
  def outcome({:exit, :timeout}), do: [:exit, :timeout]
  def outcome({:exit, {input, reason}}) when is_integer(input), do: [:exit, input, word(reason)]
  def outcome({:exit, reason}), do: [:exit, word(reason)]
  def outcome(nil), do: nil

  def mailbox, do: Process.info(self(), :message_queue_len) |> elem(1)

  def j01(_) do
    Process.flag(:trap_exit, false)
    task = Task.async(fn -> 42 end)
    %{value: Task.await(task), mailbox: mailbox()}
  end

  def j02(_) do
    task = Task.async(fn -> 42 end)
    parent = self()
    spawn(fn -> send(parent, {:seen, raised(fn -> Task.await(task) end)}) end)
    receive(do: ({:seen, seen} -> seen))
  end

  def j03(_) do
    task = Task.Supervisor.async_nolink(sup(), held())
    waited = try do
      Task.await(task, 10)
    catch
      :exit, {:timeout, _} -> :timeout
    end
    alive = Process.alive?(task.pid)
    send(task.pid, :go)
    ended(task.pid)
    %{await: waited, alive: alive, mailbox: mailbox()}
  end

  def j04(_) do
    task = Task.async(fn -> 42 end)
    first = Task.await(task)
    second = try do
      Task.await(task, 10)
    catch
      :exit, {:timeout, _} -> :timeout
    end
    [first, second]
  end

  def j05(_) do
    for {name, fun} <- [raises: fn -> raise "no" end, exits: fn -> exit(:normal) end], into: %{} do
      {name, raised(fn -> Task.await(Task.Supervisor.async_nolink(sup(), fun)) end)}
    end
  end

  def j06(_) do
    pid = spawn(fn -> Task.async(fn -> exit(:boom) end); Process.sleep(1000) end)
    ended(pid)
  end

  def j07(_) do
    parent = self()
    caller = spawn(fn ->
      task = Task.async(held())
      send(parent, {:task, task.pid})
      receive(do: (:crash -> exit(:boom)))
    end)
    task = receive(do: ({:task, pid} -> pid))
    ref = Process.monitor(task)
    send(caller, :crash)
    receive(do: ({:DOWN, ^ref, _, _, reason} -> word(reason)))
  end

  def j08(_) do
    task = Task.Supervisor.async_nolink(sup(), held())
    first = Task.yield(task, 10)
    send(task.pid, :go)
    [outcome(first), outcome(Task.yield(task, 1000)), outcome(Task.yield(task, 10))]
  end

  def j09(_) do
    s = sup()
    clean = Task.Supervisor.async_nolink(s, held())
    finished = Task.Supervisor.async_nolink(s, fn -> 42 end)
    ended(finished.pid)
    stuck = Task.Supervisor.async_nolink(s, fn -> Process.flag(:trap_exit, true); Process.sleep(:infinity) end)
    brutal = Task.Supervisor.async_nolink(s, held())
    Process.sleep(20)
    %{clean: outcome(Task.shutdown(clean, 1000)), finished: outcome(Task.shutdown(finished)),
      stuck: outcome(Task.shutdown(stuck, 20)), brutal: outcome(Task.shutdown(brutal, :brutal_kill))}
  end

  def j10(_) do
    task = Task.Supervisor.async_nolink(sup(), held())
    ignored = Task.ignore(task)
    alive = Process.alive?(task.pid)
    send(task.pid, :go)
    %{ignore: outcome(ignored), alive: alive, end: ended(task.pid), mailbox: mailbox()}
  end

  def j11(_) do
    tasks = for n <- [3, 1, 2], do: Task.async(fn -> Process.sleep(n * 10); n end)
    values = Task.await_many(tasks)
    s = sup()
    slow = Task.Supervisor.async_nolink(s, held())
    failing = Task.Supervisor.async_nolink(s, fn -> exit(:boom) end)
    first_failure = raised(fn -> Task.await_many([slow, failing], 1000) end)
    late = try do
      Task.await_many([Task.Supervisor.async_nolink(s, held()), Task.Supervisor.async_nolink(s, held())], 20)
    catch
      :exit, {:timeout, _} -> :timeout
    end
    %{values: values, failure: first_failure, late: late}
  end

  def j12(_) do
    s = sup()
    slow = Task.Supervisor.async_nolink(s, held())
    done = Task.Supervisor.async_nolink(s, fn -> 1 end)
    failing = Task.Supervisor.async_nolink(s, fn -> exit(:boom) end)
    for t <- [done, failing], do: ended(t.pid)
    first = for {_, r} <- Task.yield_many([slow, done, failing], 20), do: outcome(r)
    %{outcomes: first, slow_alive: Process.alive?(slow.pid)}
  end

  def stream(items, fun, options), do: Enum.map(Task.Supervisor.async_stream_nolink(sup(), items, fun, options), &outcome/1)

  def j13(_) do
    later = fn n -> Process.sleep(n * 20); n end
    %{ordered: stream([3, 1, 2], later, max_concurrency: 3), unordered: stream([3, 1, 2], later, max_concurrency: 3, ordered: false)}
  end

  def j14(_) do
    counter = :counters.new(2, [])
    stream(1..6, fn _ ->
      :counters.add(counter, 1, 1)
      Process.sleep(5)
      if :counters.get(counter, 1) > :counters.get(counter, 2), do: :counters.put(counter, 2, :counters.get(counter, 1))
      :counters.sub(counter, 1, 1)
    end, max_concurrency: 2)
    %{most: :counters.get(counter, 2), zero: raised(fn -> stream([1], & &1, max_concurrency: 0) end)}
  end

  def j15(_) do
    slow = fn n -> if n == 1, do: Process.sleep(1000), else: n end
    whole = try do
      stream([1, 2], slow, timeout: 20)
    catch
      :exit, {:timeout, _} -> :timeout
    end
    %{exit: whole, kill_task: stream([1, 2], slow, timeout: 20, on_timeout: :kill_task)}
  end

  def j16(_) do
    s = sup()
    taken = Task.Supervisor.async_stream_nolink(s, 1..10, fn n -> if n > 1, do: Process.sleep(5000), else: n end, max_concurrency: 3) |> Enum.take(1)
    %{taken: Enum.map(taken, &outcome/1), left: length(Task.Supervisor.children(s)), mailbox: mailbox()}
  end

  def j17(_) do
    parent = self()
    items = Stream.map(1..100, fn n -> send(parent, :pulled); n end)
    Task.Supervisor.async_stream_nolink(sup(), items, & &1, max_concurrency: 3) |> Enum.take(1)
    mailbox()
  end

  def j18(_), do: stream([1, 2], fn n -> if n == 1, do: exit(:boom), else: n end, [])
  def j23(_), do: stream([1, 2], fn n -> if n == 1, do: exit(:boom), else: n end, zip_input_on_exit: true)

  def j19(_) do
    task = Task.Supervisor.async_nolink(sup(), fn -> exit(:boom) end)
    outcome(Task.yield(task, 1000))
  end

  def j20(_) do
    s = sup()
    parent = self()
    {:ok, pid} = Task.Supervisor.start_child(s, fn -> send(parent, :ran); exit(:boom) end)
    ended(pid)
    Process.sleep(20)
    %{ran: mailbox(), children: length(Task.Supervisor.children(s))}
  end

  def j21(_) do
    s = sup(max_children: 0)
    %{start_child: answer(Task.Supervisor.start_child(s, fn -> 1 end)), async: raised(fn -> Task.Supervisor.async_nolink(s, fn -> 1 end) end)}
  end

  def j22(_) do
    s = sup()
    {:ok, pid} = Task.Supervisor.start_child(s, held())
    %{known: Task.Supervisor.terminate_child(s, pid), alive: Process.alive?(pid), again: answer(Task.Supervisor.terminate_child(s, pid))}
  end

  def j24(_), do: Task.child_spec(fn -> 1 end).restart
end
