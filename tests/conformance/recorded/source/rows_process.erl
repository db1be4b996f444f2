%% Sections K and V: links, monitors, exit signals, servers.
-module(rows_process).
-export([rows/0]).
-import(tree, [word/1, down/1]).

rows() ->
    [{k01, fun k01/1}, {k02, fun k02/1}, {k03, fun k03/1}, {k04, fun k04/1}, {k05, fun k05/1}, {k06, fun k06/1},
     {k07, fun k07/1}, {k08, fun k08/1}, {k09, fun k09/1}, {k10, fun k10/1}, {k11, fun k11/1}, {k12, fun k12/1},
     {k13, fun k13/1}, {k14, fun k14/1}, {k15, fun k15/1}, {k16, fun k16/1}, {k17, fun k17/1},
     {v01, fun v01/1}, {v02, fun v02/1}, {v03, fun v03/1}, {v04, fun v04/1}, {v05, fun v05/1}, {v06, fun v06/1},
     {v07, fun v07/1}, {v08, fun v08/1}, {v09, fun v09/1}, {v10, fun v10/1}, {v11, fun v11/1}, {v12, fun v12/1},
     {v13, fun v13/1}, {v14, fun v14/1}, {v15, fun v15/1}, {v16, fun v16/1}, {v17, fun v17/1}, {v18, fun v18/1}, {v19, fun v19/1},
     {v20, fun v20/1}, {v21, fun v21/1}].

worker(Log) -> worker(Log, #{}).
worker(Log, O) -> {ok, P} = gen_server:start(worker, O#{name => maps:get(name, O, "a"), log => Log}, []), log:take(Log), P.
plain() -> spawn(fun Loop() -> receive {exit, R} -> exit(R); {link, P} -> link(P), Loop(); {unlink, P} -> unlink(P), Loop();
                                       {ask, From} -> From ! here, Loop() end end).
asked(P) -> P ! {ask, self()}, receive here -> alive after 50 -> is_process_alive(P) end.
reasons() -> [normal, shutdown, {shutdown, done}, boom, killed].

k01(Log) ->
    maps:from_list([begin
        P = worker(Log), M = monitor(process, P), tree:finish(P, R),
        {word(R), down(M)}
    end || R <- reasons()]).
k02(_) ->
    P = spawn(fun() -> ok end), M0 = monitor(process, P), down(M0),
    [down(monitor(process, P)), down(monitor(process, nobody_has_this_name))].
k03(Log) -> P = worker(Log), M = monitor(process, P), exit(P, kill), down(M).
k04(Log) ->
    P = worker(Log), M1 = monitor(process, P), M2 = monitor(process, P), tree:finish(P, boom),
    #{downs => [down(M1), down(M2)], differ => M1 =/= M2}.
k05(Log) ->
    F = fun(Options) ->
        P = worker(Log), M = monitor(process, P), tree:finish(P, boom), tree:queued(self(), 1),
        A = demonitor(M, Options),
        #{answer => A, stays => receive {'DOWN', M, _, _, _} -> true after 0 -> false end}
    end,
    #{plain => F([]), flush => F([flush]), flush_info => F([flush, info])}.
k06(Log) ->
    P = worker(Log), M = monitor(process, P), A = demonitor(M, [info]), tree:finish(P, boom),
    #{in_time => A, down => receive {'DOWN', M, _, _, _} -> true after 30 -> false end}.
k07(_) -> P = plain(), exit(P, normal), asked(P).
k08(_) ->
    maps:from_list([begin P = plain(), M = monitor(process, P), exit(P, R), {word(R), down(M)} end
                    || R <- [shutdown, {shutdown, done}, boom]]).
k09(Log) ->
    P = worker(Log, #{notes => true}),
    [exit(P, R) || R <- [normal, shutdown, boom]],
    gen_server:call(P, hello),
    M = monitor(process, P), exit(P, kill),
    #{log => log:take(Log), killed => down(M)}.
linked(R) ->
    A = plain(), B = plain(), A ! {link, B}, asked(A),
    M = monitor(process, A),
    case R of killed -> exit(B, kill); _ -> B ! {exit, R} end,
    receive {'DOWN', M, _, _, W} -> word(W) after 50 -> asked(A) end.
k10(_) -> linked(normal).
k11(_) -> maps:from_list([{word(R), linked(R)} || R <- [shutdown, {shutdown, done}, boom, killed]]).
k12(_) -> P = spawn(fun() -> ok end), M = monitor(process, P), down(M), link(P), tree:exit_of(P).
k13(_) -> P = plain(), link(P), unlink(P), P ! {exit, boom}, receive {'EXIT', P, _} -> exit after 50 -> nothing end.
k14(_) ->
    Me = self(),
    [begin P = spawn(fun() -> receive go -> [Me ! {msg, I} || I <- [1, 2, 3]] end end), M = monitor(process, P), P ! go,
        receive {'DOWN', M, _, _, _} -> [receive {msg, I} -> I after 0 -> late end || _ <- [1, 2, 3]] end
     end || _ <- lists:seq(1, 3)].
k15(Log) -> P = worker(Log), register(named, P), M = monitor(process, P), tree:finish(P, boom), down(M), whereis(named) =:= undefined.
k16(Log) ->
    {ok, P} = worker:start_link(#{name => "a", log => Log, notes => true}),
    log:take(Log),
    {_, Mon} = spawn_monitor(fun() -> exit(P, boom) end), down(Mon), gen_server:call(P, hello),
    Stranger = log:take(Log),
    M = monitor(process, P), exit(P, shutdown),
    #{stranger => Stranger, parent => down(M), log => log:take(Log)}.
k17(_) -> {_, M} = spawn_monitor(fun() -> exit(self(), normal), receive after 1000 -> exit(boom) end end), down(M).

call(P, M) -> case catch gen_server:call(P, M, 1000) of {'EXIT', {R, {gen_server, call, _}}} -> #{died => word(R)}; A -> #{answer => A} end.
v01(Log) ->
    P = worker(Log),
    A = tree:answer(catch gen_server:call(P, {sleep, 60}, 10)),
    B = gen_server:call(P, hello),
    #{call => A, next => B, mailbox => receive X -> X after 80 -> empty end}.
v02(_) ->
    P = spawn(fun() -> ok end), M = monitor(process, P), down(M),
    [call(P, hello), call(nobody_has_this_name, hello)].
v03(Log) ->
    maps:from_list([begin
        P = worker(Log), Me = self(),
        spawn(fun() -> Me ! {answer, call(P, late)} end),
        waiting(P), tree:finish(P, R),
        {word(R), receive {answer, A} -> A end}
    end || R <- reasons()]).
waiting(P) -> case gen_server:call(P, is_late) of true -> ok; false -> waiting(P) end.
v04(Log) ->
    maps:from_list([begin P = worker(Log), M = monitor(process, P), A = call(P, C), {K, #{caller => A, down => down(M), log => log:take(Log)}} end
                    || {K, C} <- [{raises, crash}, {exits, {exit, bye}}, {garbage, garbage}]]).
v05(Log) ->
    maps:from_list([begin P = worker(Log), M = monitor(process, P), A = call(P, {stop, R, bye}), {word(R), #{caller => A, down => down(M), log => log:take(Log)}} end
                    || R <- [normal, shutdown, boom]]).
v06(Log) ->
    maps:from_list([begin P = worker(Log), M = monitor(process, P), A = call(P, {stop, R}), {word(R), #{caller => A, down => down(M)}} end
                    || R <- [normal, shutdown, {shutdown, done}, boom]]).
v07(Log) ->
    P = worker(Log), Me = self(),
    spawn(fun() -> Me ! {answer, gen_server:call(P, late)} end),
    waiting(P),
    Other = gen_server:call(P, hello),
    From = gen_server:call(P, who_is_late),
    spawn(fun() -> gen_server:reply(From, from_a_third) end),
    #{meanwhile => Other, answer => receive {answer, A} -> A end}.
v08(Log) -> P = worker(Log), #{call => tree:answer(catch gen_server:call(P, late, 20)), alive => is_process_alive(P)}.
v09(Log) ->
    P = worker(Log), Me = self(),
    spawn(fun() -> Me ! {answer, gen_server:call(P, late)} end),
    waiting(P),
    From = gen_server:call(P, who_is_late),
    gen_server:reply(From, first), gen_server:reply(From, second),
    #{answer => receive {answer, A} -> A end, alive => is_process_alive(P)}.
v10(Log) ->
    P = worker(Log),
    case catch gen_server:call(P, self_call) of {'EXIT', {{calling_self, _}, _}} -> calling_self; Other -> word(Other) end.
v11(_) ->
    P = spawn(fun() -> ok end), M = monitor(process, P), down(M),
    [gen_server:cast(P, hello), gen_server:cast(nobody_has_this_name, hello)].
v12(Log) -> P = worker(Log), P ! unheard_of, #{alive => gen_server:call(P, hello) =:= <<"a">>}.
v13(Log) -> P = worker(Log), M = monitor(process, P), #{caller => call(P, unheard_of), down => down(M)}.
v14(Log) ->
    maps:from_list([begin P = worker(Log, O), M = monitor(process, P), F(P), down(M), {K, log:take(Log)} end
                    || {K, O, F} <- [{stop, #{}, fun(P) -> gen_server:cast(P, {stop, normal}) end},
                                     {crash, #{}, fun(P) -> gen_server:cast(P, crash) end},
                                     {kill, #{}, fun(P) -> exit(P, kill) end},
                                     {signal, #{trap => false}, fun(P) -> exit(P, shutdown) end}]]).
v15(Log) -> P = worker(Log, #{bad => true}), M = monitor(process, P), gen_server:cast(P, {stop, normal}), #{down => down(M), log => log:take(Log)}.
v16(Log) ->
    P = worker(Log), M = monitor(process, P), A = gen_server:stop(P),
    Slow = worker(Log, #{slow => 60}), M2 = monitor(process, Slow),
    #{answer => A, down => down(M), dead => tree:answer(case catch gen_server:stop(P) of {'EXIT', noproc} -> {error, noproc}; X -> X end),
      too_slow => tree:answer(case catch gen_server:stop(Slow, normal, 10) of {'EXIT', timeout} -> {error, timeout}; Y -> Y end),
      ends_later => down(M2)}.
v17(Log) ->
    maps:from_list([begin
        P = worker(Log), M = monitor(process, P),
        Words = reports:during(fun() -> gen_server:cast(P, {stop, R}), down(M) end),
        {word(R), lists:member(server, Words)}
    end || R <- [normal, shutdown, {shutdown, done}, boom]]).
v18(Log) ->
    F = fun(Does) -> R = gen_server:start_link(worker, #{name => "a", log => Log, does => Does}, []),
        #{answer => tree:answer(R), exit => receive {'EXIT', _, W} -> word(W) after 50 -> nothing end} end,
    #{stops => F({fail, bad}), raises => F(raise), ignores => F(ignore)}.
v19(Log) ->
    {ok, P} = worker:start_link(#{name => "a", log => Log, register => reborn}),
    tree:finish(P, boom),
    tree:answer(worker:start_link(#{name => "b", log => Log, register => reborn})).
v20(Log) ->
    P = worker(Log),
    gen_server:cast(P, {note, "1"}), P ! {note, "2"}, gen_server:call(P, {note, "3"}), gen_server:cast(P, {note, "4"}),
    sys:get_state(P), log:take(Log).
v21(Log) ->
    P = worker(Log),
    gen_server:call(P, {bump, 2}),
    Before = maps:get(value, sys:get_state(P)),
    sys:replace_state(P, fun(S) -> S#{value => 40} end),
    After = gen_server:call(P, {bump, 2}),
    sys:statistics(P, true), gen_server:call(P, hello), gen_server:call(P, hello),
    {ok, Stats} = sys:statistics(P, get),
    sys:suspend(P),
    Suspended = tree:answer(catch gen_server:call(P, hello, 20)),
    Seen = maps:get(value, sys:get_state(P)),
    sys:resume(P),
    #{state => Before, replaced => After, messages_in => proplists:get_value(messages_in, Stats),
      suspended => Suspended, still_answers_sys => Seen, resumed => gen_server:call(P, hello)}.
