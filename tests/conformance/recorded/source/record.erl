%% Runs every scenario in a process of its own, with a log of its own, and writes what it saw.
-module(record).
-export([main/1]).

main([Path]) ->
    logger:set_primary_config(level, none),
    Rows = lists:append([M:rows() || M <- [rows_specs, rows_policy, rows_trees, rows_process]]),
    Seen = maps:from_list([{row(Id), run(Fun)} || {Id, Fun} <- Rows]),
    Otp = list_to_binary(erlang:system_info(otp_release)),
    encode:write(Path, #{engine => <<"Erlang/OTP ", Otp/binary>>, rows => Seen}),
    halt(0).

row(Id) -> list_to_binary(string:uppercase(atom_to_list(Id))).

run(Fun) ->
    Log = log:start(),
    {Pid, Mon} = spawn_monitor(fun() -> process_flag(trap_exit, true), exit({seen, Fun(Log)}) end),
    receive
        {'DOWN', Mon, process, Pid, {seen, Seen}} -> Seen;
        {'DOWN', Mon, process, Pid, Why} -> io:format("~p: ~p~n", [Fun, Why]), halt(1)
    after 20000 -> io:format("~p hangs~n", [Fun]), halt(1)
    end.
