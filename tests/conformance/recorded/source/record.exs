# Runs every scenario in a process of its own, with a log of its own, and writes what it saw.
Logger.configure(level: :emergency)
Code.require_file("rows_elixir.exs", __DIR__)
Code.require_file("rows_registry.exs", __DIR__)
Code.require_file("rows_tasks.exs", __DIR__)

defmodule Recorder do
  def run(row, fun) do
    task = spawn(fn -> Process.flag(:trap_exit, true); exit({:seen, fun.(:log.start())}) end)
    await(row, Process.monitor(task))
  end

  defp await(row, ref) do
    receive do
      {:DOWN, ^ref, _, _, {:seen, seen}} -> seen
      {:DOWN, ^ref, _, _, why} -> IO.inspect({row, why}); System.halt(1)
    after
      20_000 -> IO.inspect({row, :hangs}); System.halt(1)
    end
  end
end

[path] = System.argv()
rows = RowsElixir.rows() ++ RowsRegistry.rows() ++ RowsTasks.rows()
seen = Map.new(rows, fn {row, fun} -> {Atom.to_string(row), Recorder.run(row, fun)} end)
:encode.write(path, %{engine: "Elixir #{System.version()}", rows: seen})
