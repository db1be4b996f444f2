%% Sections R, T, I, L: who is restarted, with whom, how often.
-module(rows_policy).
-export([rows/0]).
-import(tree, [spec/2, spec/3, script/1, end_child/3, word/1]).

rows() ->
    [{r01, fun(L) -> r(L, normal) end}, {r02, fun(L) -> r(L, shutdown) end}, {r03, fun(L) -> r(L, {shutdown, done}) end},
     {r04, fun(L) -> r(L, boom) end}, {r05, fun(L) -> r(L, killed) end}, {r06, fun r06/1}, {r07, fun r07/1},
     {r08, fun r08/1}, {r11, fun r11/1}, {r12, fun r12/1}, {r13, fun r13/1}, {r14, fun r14/1}, {r15, fun r15/1}, {r16, fun r16/1},
     {r17, fun r17/1},
     {t01, fun(L) -> t(L, one_for_one) end}, {t02, fun(L) -> t(L, one_for_all) end},
     {t03, fun(L) -> t(L, rest_for_one) end}, {t04, fun t04/1}, {t05, fun t05/1}, {t06, fun t06/1}, {t07, fun t07/1},
     {t08, fun t08/1}, {t09, fun t09/1}, {t10, fun t10/1}, {t11, fun t11/1}, {t13, fun t13/1}, {t14, fun t14/1},
     {i01, fun i01/1}, {i02, fun i02/1}, {i03, fun i03/1}, {i06, fun i06/1}, {i07, fun i07/1}, {i10, fun i10/1},
     {i11, fun i11/1}, {i08, fun i08/1}, {i09, fun i09/1}, {i12, fun i12/1},
     {l01, fun l01/1}, {l02, fun l02/1}, {l03, fun l03/1}, {l04, fun l04/1}, {l05, fun l05/1}, {l07, fun l07/1},
     {l08, fun l08/1}].

fresh(Flags, Specs, Log) ->
    Sup = tree:start(Flags, Specs),
    log:take(Log),
    Sup.

letters(Names, Log) -> [spec([N], Log) || N <- Names].

%% restarted, kept or removed, for each restart type.
r(Log, Reason) ->
    maps:from_list([begin
        Sup = fresh(#{}, [spec("a", Log, #{restart => R})], Log),
        end_child(Sup, a, Reason),
        Became = case maps:get(a, tree:states(Sup), removed) of
            running -> restarted; undefined -> kept; removed -> removed
        end,
        {R, #{became => Became, log => log:take(Log)}}
    end || R <- [permanent, transient, temporary]]).

r06(Log) ->
    Sup = fresh(#{intensity => 0}, [spec("a", Log)], Log),
    end_child(Sup, a, normal),
    #{exit => tree:exit_of(Sup), log => log:take(Log)}.
r07(Log) ->
    Sup = fresh(#{intensity => 0}, [spec("a", Log, #{restart => transient}), spec("b", Log, #{restart => temporary})], Log),
    end_child(Sup, a, shutdown),
    end_child(Sup, b, boom),
    tree:states(Sup).
r08(Log) ->
    Sup = fresh(#{intensity => 0}, [spec("a", Log)], Log),
    As = [tree:answer(A) || A <- [supervisor:terminate_child(Sup, a), supervisor:restart_child(Sup, a),
                                  supervisor:terminate_child(Sup, a), supervisor:delete_child(Sup, a)]],
    #{answers => As, alive => is_process_alive(Sup), ids => tree:ids(Sup)}.
r11(Log) ->
    maps:from_list([begin
        Sup = fresh(#{strategy => S}, [spec("a", Log), spec("t", Log, #{restart => temporary}), spec("c", Log)], Log),
        end_child(Sup, a, boom),
        {S, #{log => log:take(Log), ids => tree:ids(Sup)}}
    end || S <- [one_for_all, rest_for_one]]).
r12(Log) ->
    maps:from_list([begin
        Sup = fresh(#{strategy => S}, [spec("a", Log), spec("job", Log, #{restart => transient}), spec("c", Log)], Log),
        end_child(Sup, job, normal),
        supervisor:terminate_child(Sup, c),
        end_child(Sup, a, boom),
        {S, #{log => log:take(Log), states => tree:states(Sup)}}
    end || S <- [one_for_all, rest_for_one]]).
r13(Log) ->
    Sup = fresh(#{}, [spec("a", Log, #{script => script([up, ignore, up])})], Log),
    end_child(Sup, a, boom),
    S = tree:states(Sup),
    #{states => S, again => tree:answer(supervisor:restart_child(Sup, a)), log => log:take(Log)}.
r14(Log) ->
    F = fun() -> {ok, Pid} = worker:start_link(#{name => "a", log => Log}), {ok, Pid, info} end,
    Sup = fresh(#{}, [#{id => a, start => {erlang, apply, [F, []]}}], Log),
    supervisor:terminate_child(Sup, a),
    {ok, _, Info} = supervisor:restart_child(Sup, a),
    end_child(Sup, a, boom),
    #{restart_child => Info, states => tree:states(Sup), log => log:take(Log)}.
r15(Log) ->
    Sup = fresh(#{intensity => 1}, [spec("a", Log)], Log),
    Old = tree:child(Sup, a),
    end_child(Sup, a, boom),
    Sup ! {'EXIT', Old, boom},
    Sup ! {'EXIT', spawn(fun() -> ok end), boom},
    #{states => tree:states(Sup), log => log:take(Log)}.
r16(Log) ->
    Sup = fresh(#{}, [spec("a", Log)], Log),
    Old = tree:child(Sup, a),
    5 = gen_server:call(Old, {bump, 5}),
    end_child(Sup, a, boom),
    #{old => tree:answer(catch gen_server:call(Old, hello)), new => gen_server:call(tree:child(Sup, a), {bump, 1})}.
r17(Log) ->
    Sup = fresh(#{}, [spec("a", Log, #{register => the_name})], Log),
    Old = whereis(the_name),
    end_child(Sup, a, boom),
    #{is_new => whereis(the_name) =/= Old, is_child => whereis(the_name) =:= tree:child(Sup, a)}.

t(Log, Strategy) ->
    maps:from_list([begin
        Sup = fresh(#{strategy => Strategy}, letters("abcd", Log), Log),
        end_child(Sup, Id, boom),
        {Id, log:take(Log)}
    end || Id <- [a, b, d]]).
t04(Log) ->
    Sup = fresh(#{strategy => rest_for_one}, letters("ab", Log), Log),
    supervisor:start_child(Sup, spec("c", Log)),
    end_child(Sup, b, boom),
    #{ids => tree:ids(Sup), log => log:take(Log)}.
t05(Log) ->
    Sup = fresh(#{strategy => rest_for_one}, letters("abc", Log), Log),
    supervisor:terminate_child(Sup, a),
    supervisor:restart_child(Sup, a),
    log:take(Log),
    end_child(Sup, a, boom),
    #{ids => tree:ids(Sup), log => log:take(Log)}.

sibling_fails(Log, Strategy) ->
    Sup = fresh(#{strategy => Strategy, intensity => 2},
                [spec("a", Log), spec("b", Log, #{script => script([up, {fail, bad}, up])}), spec("c", Log)], Log),
    end_child(Sup, a, boom),
    timer:sleep(50),
    #{log => log:take(Log), alive => is_process_alive(Sup)}.
t06(Log) -> sibling_fails(Log, one_for_all).
t07(Log) -> sibling_fails(Log, rest_for_one).

both_at_once(Log, Strategy, Ids, Intensity) ->
    Sup = fresh(#{strategy => Strategy, intensity => Intensity}, letters("abc", Log), Log),
    Pids = [tree:child(Sup, Id) || Id <- Ids],
    tree:busy(Sup, fun() -> [tree:finish(P, boom) || P <- Pids] end),
    Alive = is_process_alive(Sup),
    #{alive => Alive, log => log:take(Log)}.
%% The least intensity that survives is the number of restarts it counted.
counted(Log, Strategy, Ids) ->
    #{with_1 => both_at_once(Log, Strategy, Ids, 1), with_2 => both_at_once(Log, Strategy, Ids, 2)}.
t08(Log) -> counted(Log, one_for_all, [a, b]).
t09(Log) -> counted(Log, one_for_one, [a, b]).
t10(Log) -> counted(Log, rest_for_one, [b, a]).

simple(Log, Options) ->
    {ok, Sup} = supervisor:start_link(tree, {#{strategy => simple_one_for_one, intensity => 3, period => 5},
        [maps:merge(#{id => a, start => {worker, start_link, []}}, Options)]}),
    {Sup, fun(Name, More) -> {ok, P} = supervisor:start_child(Sup, [More#{name => Name, log => Log}]), P end}.
t11(Log) ->
    {Sup, Start} = simple(Log, #{}),
    A = Start("a", #{}), Start("b", #{}),
    tree:finish(A, boom), tree:sync(Sup),
    log:take(Log).
t13(Log) ->
    {Sup, Start} = simple(Log, #{restart => temporary}),
    A = Start("a", #{}),
    tree:finish(A, boom), tree:sync(Sup),
    {ok, Stranger} = worker:start_link(#{name => "s", log => Log}),
    #{dead => supervisor:terminate_child(Sup, A), stranger => tree:answer(supervisor:terminate_child(Sup, Stranger))}.
%% All are told before the first has ended.
t14(Log) ->
    {Sup, Start} = simple(Log, #{}),
    [Start([N], #{slow => 100}) || N <- "abc"],
    log:take(Log),
    tree:stop(Sup, shutdown),
    [<<C>> || <<C, _/binary>> <- log:take(Log)].

i01(Log) ->
    Sup = fresh(#{intensity => 2}, letters("abc", Log), Log),
    end_child(Sup, b, boom), end_child(Sup, b, boom),
    Alive = is_process_alive(Sup),
    log:take(Log),
    end_child(Sup, b, boom),
    #{alive_before => Alive, exit => tree:exit_of(Sup), log => log:take(Log)}.
i02(Log) ->
    Sup = fresh(#{intensity => 0}, letters("ab", Log), Log),
    end_child(Sup, a, boom),
    #{exit => tree:exit_of(Sup), log => log:take(Log)}.
%% Outside of the band [T, T + 1 s) in which OTP's whole seconds make it a matter of chance.
i03(Log) ->
    F = fun(Ms) ->
        Sup = fresh(#{intensity => 1, period => 1}, letters("a", Log), Log),
        end_child(Sup, a, boom), timer:sleep(Ms), end_child(Sup, a, boom),
        is_process_alive(Sup)
    end,
    #{900 => F(900), 2100 => F(2100)}.
i06(Log) ->
    Sup = fresh(#{intensity => 3}, [spec("a", Log, #{script => script([up, {fail, bad}])}), spec("b", Log)], Log),
    end_child(Sup, a, boom),
    #{exit => tree:exit_of(Sup), log => log:take(Log)}.
i07(Log) ->
    Sup = fresh(#{strategy => one_for_all, intensity => 1}, letters("abcd", Log), Log),
    end_child(Sup, b, boom),
    #{alive => is_process_alive(Sup), log => log:take(Log)}.

inner(Log, Flags, Name) ->
    #{id => list_to_atom(Name), type => supervisor,
      start => {supervisor, start_link, [tree, {maps:merge(#{strategy => one_for_one, intensity => 0, period => 5}, Flags),
                                               letters("x", Log)}]}}.
crash_leaf(Outer) ->
    case catch tree:child(Outer, inner) of
        Inner when is_pid(Inner) ->
            Mon = monitor(process, Inner),
            end_child(Inner, x, boom),
            receive {'DOWN', Mon, process, _, R} -> {inner_down, word(R)} after 30 -> {inner_up, none} end;
        _ -> {outer_down, none}
    end.
i10(Log) ->
    maps:from_list([begin
        Outer = fresh(#{}, [(inner(Log, #{}, "inner"))#{restart => R}], Log),
        {inner_down, W} = crash_leaf(Outer),
        tree:sync(Outer),
        {R, #{exit => W, state => maps:get(inner, tree:states(Outer), removed)}}
    end || R <- [permanent, transient, temporary]]).
i11(Log) ->
    maps:from_list([{list_to_binary(io_lib:format("~p ~p", [I, O])), crashes(fresh(#{intensity => O}, [inner(Log, #{intensity => I}, "inner")], Log), 0)}
                    || {I, O} <- [{0, 0}, {0, 2}, {1, 1}, {1, 2}]]).
crashes(Outer, N) ->
    case is_process_alive(Outer) of
        true -> crash_leaf(Outer), crashes(Outer, N + 1);
        false -> N
    end.

%% One count for all children, and a new one for a supervisor that was restarted.
i08(Log) ->
    Sup = fresh(#{intensity => 1}, letters("ab", Log), Log),
    Shared = [begin end_child(Sup, Id, boom), is_process_alive(Sup) end || Id <- [a, b]],
    Outer = fresh(#{}, [inner(Log, #{intensity => 1}, "inner")], Log),
    First = tree:child(Outer, inner),
    end_child(First, x, boom),
    Mon = monitor(process, First),
    exit(First, kill),
    tree:down(Mon),
    tree:sync(Outer),
    Second = tree:child(Outer, inner),
    end_child(Second, x, boom),
    #{shared => Shared, anew => is_process_alive(Second)}.
i09(Log) ->
    Sup = fresh(#{intensity => 0}, letters("a", Log), Log),
    Words = reports:during(fun() -> end_child(Sup, a, boom), tree:exit_of(Sup) end),
    [W || W <- Words, W =:= child_terminated orelse W =:= shutdown].
%% How often a start that always fails is tried in a fifth of a second: there is no waiting in between.
i12(Log) ->
    Sup = looping(Log, #{}, [failing(Log)]),
    timer:sleep(200),
    supervisor:terminate_child(Sup, b),
    #{more_than_fifty => length([E || E <- log:take(Log), E =:= <<"!b">>]) > 50}.

%% A child that fails to come back: `a` up at first, then failing for as long as the script says.
looping(Log, Flags, Specs) ->
    Sup = fresh(maps:merge(#{intensity => 1000000}, Flags), Specs, Log),
    end_child(Sup, b, boom),
    Sup.
failing(Log) -> spec("b", Log, #{script => script([up, {fail, bad}])}).
l01(Log) ->
    Sup = looping(Log, #{}, [spec("a", Log), failing(Log)]),
    S = tree:states(Sup),
    #{states => S, alive => is_process_alive(Sup)}.
l02(Log) -> tree:counts(looping(Log, #{}, [spec("a", Log), failing(Log)])).
l03(Log) -> tree:answer(supervisor:start_child(looping(Log, #{}, [failing(Log)]), spec("b", Log))).
l04(Log) ->
    Sup = looping(Log, #{}, [failing(Log)]),
    #{restart => tree:answer(supervisor:restart_child(Sup, b)), delete => tree:answer(supervisor:delete_child(Sup, b))}.
l05(Log) ->
    Sup = looping(Log, #{}, [failing(Log)]),
    A = supervisor:terminate_child(Sup, b),
    log:take(Log), tree:sync(Sup), timer:sleep(20),
    #{answer => A, states => tree:states(Sup), later => log:take(Log)}.
l07(Log) ->
    tree:states(looping(Log, #{strategy => rest_for_one}, [spec("a", Log), failing(Log), spec("c", Log)])).
l08(Log) ->
    F = fun(Intensity) ->
        Sup = fresh(#{intensity => Intensity}, [spec("a", Log, #{script => script([up, {fail, bad}, {fail, bad}, up])})], Log),
        end_child(Sup, a, boom), timer:sleep(30),
        #{alive => is_process_alive(Sup), log => log:take(Log)}
    end,
    #{2 => F(2), 3 => F(3)}.
