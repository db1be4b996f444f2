%% Sections H, M, Z, N: shutdown, management, significant children, nesting.
-module(rows_trees).
-export([rows/0]).
-import(tree, [spec/2, spec/3, script/1, end_child/3, word/1]).

rows() ->
    [{h01, fun h01/1}, {h02, fun h02/1}, {h03, fun h03/1}, {h04, fun h04/1}, {h05, fun h05/1}, {h06, fun h06/1},
     {h07, fun h07/1}, {h08, fun h08/1}, {h09, fun h09/1}, {h10, fun h10/1}, {h12, fun h12/1}, {h13, fun h13/1},
     {h14, fun h14/1}, {h15, fun h15/1}, {h16, fun h16/1},
     {m01, fun m01/1}, {m02, fun m02/1}, {m03, fun m03/1}, {m04, fun m04/1}, {m05, fun m05/1}, {m06, fun m06/1},
     {m07, fun m07/1}, {m08, fun m08/1}, {m09, fun m09/1}, {m10, fun m10/1}, {m11, fun m11/1}, {m13, fun m13/1},
     {m14, fun m14/1}, {m15, fun m15/1},
     {z01, fun z01/1}, {z02, fun z02/1}, {z03, fun z03/1}, {z04, fun z04/1}, {z05, fun z05/1}, {z06, fun z06/1},
     {z07, fun z07/1}, {z08, fun z08/1}, {z09, fun z09/1},
     {n01, fun n01/1}, {n02, fun n02/1}, {n03, fun n03/1}, {n04, fun n04/1}].

fresh(Flags, Specs, Log) ->
    Sup = tree:start(Flags, Specs),
    log:take(Log),
    Sup.
letters(Names, Log) -> [spec([N], Log) || N <- Names].

%% A tree of one child is stopped: how the child ended, how the supervisor did, what was logged.
stopped(Log, Options) ->
    Sup = fresh(#{}, [spec("b", Log), spec("a", Log, Options)], Log),
    Mon = monitor(process, tree:child(Sup, a)),
    Exit = tree:stop(Sup, shutdown),
    timer:sleep(10),
    #{child => tree:down(Mon), exit => Exit, log => log:take(Log)}.

h01(Log) -> Sup = fresh(#{}, letters("abc", Log), Log), #{exit => tree:stop(Sup, shutdown), log => log:take(Log)}.
h02(Log) ->
    Sup = fresh(#{}, [spec([N], Log, #{slow => 20}) || N <- "abc"], Log),
    tree:stop(Sup, shutdown),
    log:take(Log).
h03(Log) -> stopped(Log, #{}).
h04(Log) -> stopped(Log, #{trap => false}).
h05(Log) -> stopped(Log, #{shutdown => 20, slow => 500}).
h06(Log) -> stopped(Log, #{shutdown => infinity, slow => 50}).
h07(Log) -> stopped(Log, #{shutdown => brutal_kill}).
h08(Log) -> stopped(Log, #{shutdown => 0, slow => 100}).
%% b is dead by another reason before its turn comes.
h09(Log) ->
    Sup = fresh(#{}, [spec("a", Log), spec("b", Log), spec("c", Log, #{slow => 50})], Log),
    B = tree:child(Sup, b),
    spawn(fun() -> timer:sleep(20), gen_server:cast(B, {stop, boom}) end),
    #{exit => tree:stop(Sup, shutdown), log => log:take(Log)}.
h10(Log) -> stopped(Log, #{bad => true}).
h12(Log) ->
    maps:from_list([begin
        Me = self(),
        Parent = spawn(fun() ->
            process_flag(trap_exit, true),
            Sup = fresh(#{}, letters("ab", Log), Log),
            Me ! {sup, Sup},
            receive go -> exit(R) end
        end),
        receive {sup, Sup} -> ok end,
        Mon = monitor(process, Sup),
        Parent ! go,
        {word(R), #{exit => tree:down(Mon), log => log:take(Log)}}
    end || R <- [normal, shutdown, boom]]).
h13(Log) ->
    maps:from_list([begin
        Sup = fresh(#{}, letters("a", Log), Log),
        {_, Mon} = spawn_monitor(fun() -> exit(Sup, R) end),
        tree:down(Mon), tree:sync(Sup),
        {R, is_process_alive(Sup)}
    end || R <- [normal, shutdown]]).
h14(Log) ->
    Sup = fresh(#{}, letters("a", Log), Log),
    Sup ! what_is_this, tree:sync(Sup),
    #{alive => is_process_alive(Sup), log => log:take(Log)}.
h15(Log) ->
    Sup = fresh(#{}, letters("ab", Log), Log),
    Mons = [monitor(process, tree:child(Sup, Id)) || Id <- [a, b]],
    exit(Sup, kill),
    #{children => [tree:down(M) || M <- Mons], log => lists:sort(log:take(Log))}.
%% gen:stop is what supervisor:stop (OTP 29) and Supervisor.stop (Elixir) are.
h16(Log) ->
    Sup = fresh(#{}, letters("ab", Log), Log),
    A = gen_server:stop(Sup, shutdown, infinity),
    First = log:take(Log),
    Slow = fresh(#{}, [spec("a", Log, #{slow => 100})], Log),
    B = tree:answer(case catch gen_server:stop(Slow, shutdown, 20) of {'EXIT', R} -> {error, R}; X -> X end),
    #{answer => A, log => First, too_slow => B, ends_later => tree:exit_of(Slow)}.

m01(Log) ->
    Sup = tree:start(#{}, letters("abc", Log)),
    [Id || {Id, _, _, _} <- supervisor:which_children(Sup)].
m02(Log) ->
    Sup = tree:start(#{}, [spec("a", Log), spec("b", Log), spec("c", Log, #{type => supervisor}), spec("d", Log, #{does => ignore})]),
    supervisor:terminate_child(Sup, a),
    tree:counts(Sup).
m03(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    {error, {already_started, Pid}} = supervisor:start_child(Sup, spec("a", Log)),
    #{answer => already_started, same => Pid =:= tree:child(Sup, a)}.
m04(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    supervisor:terminate_child(Sup, a),
    tree:answer(supervisor:start_child(Sup, spec("a", Log))).
m05(Log) -> tree:answer(supervisor:terminate_child(tree:start(#{}, letters("a", Log)), b)).
m06(Log) ->
    Sup = fresh(#{}, [spec("a", Log, #{slow => 30})], Log),
    A = supervisor:terminate_child(Sup, a),
    #{answer => A, log => log:take(Log), states => tree:states(Sup)}.
m07(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    [supervisor:terminate_child(Sup, a), supervisor:terminate_child(Sup, a)].
m08(Log) ->
    Sup = tree:start(#{}, [spec("a", Log, #{restart => temporary})]),
    A = supervisor:terminate_child(Sup, a),
    #{answer => A, ids => tree:ids(Sup), restart => tree:answer(supervisor:restart_child(Sup, a))}.
m09(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    R = tree:answer(supervisor:restart_child(Sup, a)),
    supervisor:terminate_child(Sup, a),
    #{running => R, unknown => tree:answer(supervisor:restart_child(Sup, b)), stopped => tree:answer(supervisor:restart_child(Sup, a))}.
m10(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    R = tree:answer(supervisor:delete_child(Sup, a)),
    supervisor:terminate_child(Sup, a),
    #{running => R, unknown => tree:answer(supervisor:delete_child(Sup, b)), stopped => tree:answer(supervisor:delete_child(Sup, a)),
      ids => tree:ids(Sup)}.
m11(Log) ->
    Sup = tree:start(#{}, letters("a", Log)),
    tree:stop(Sup, shutdown),
    #{which_children => tree:answer(catch supervisor:which_children(Sup)),
      start_child => tree:answer(catch supervisor:start_child(Sup, spec("b", Log)))}.
%% An API call in a process of its own: its answer comes later.
later(Fun) ->
    {_, Mon} = spawn_monitor(fun() -> exit({answer, catch Fun()}) end),
    fun() -> receive {'DOWN', Mon, process, _, {answer, A}} -> tree:answer(A) end end.
m13(Log) ->
    Sup = fresh(#{intensity => 0}, letters("ab", Log), Log),
    A = tree:child(Sup, a),
    Answer = tree:busy(Sup, fun() ->
        tree:finish(A, boom),
        Later = later(fun() -> supervisor:terminate_child(Sup, b) end),
        tree:queued(Sup, 2), Later
    end),
    #{answer => Answer(), exit => tree:exit_of(Sup)}.
m14(Log) ->
    Sup = fresh(#{intensity => 0}, letters("ab", Log), Log),
    A = tree:child(Sup, a),
    Answer = tree:busy(Sup, fun() ->
        Later = later(fun() -> supervisor:terminate_child(Sup, a) end),
        tree:queued(Sup, 1), tree:finish(A, boom), Later
    end),
    #{answer => Answer(), states => tree:states(Sup), log => log:take(Log)}.
m15(_) ->
    Dead = spawn(fun() -> ok end),
    Timer = erlang:send_after(10, Dead, hello),
    Live = erlang:send_after(1000000, self(), hello),
    Left = erlang:cancel_timer(Live),
    Fired = erlang:send_after(0, self(), fired),
    timer:sleep(20),
    #{to_the_dead => is_reference(Timer), left => is_integer(Left) andalso Left > 0, again => erlang:cancel_timer(Live),
      after_firing => erlang:cancel_timer(Fired), in_the_mailbox => receive fired -> true after 0 -> false end}.

significant(Log, Mode, Restart) ->
    fresh(#{auto_shutdown => Mode},
          [spec("a", Log, #{significant => true, restart => Restart}), spec("s", Log, #{significant => true, restart => Restart}),
           spec("z", Log, #{restart => temporary})], Log).
outcome(Sup, Log) -> #{exit => tree:exit_of(Sup), log => log:take(Log)}.
auto(Log, Mode, Restart, Id, Reason) ->
    Sup = significant(Log, Mode, Restart),
    end_child(Sup, Id, Reason),
    outcome_or_alive(Sup, Log).
outcome_or_alive(Sup, Log) ->
    case is_process_alive(Sup) of
        true -> #{exit => alive, states => tree:states(Sup), log => log:take(Log)};
        false -> outcome(Sup, Log)
    end.
z01(Log) -> maps:from_list([{word(R), auto(Log, any_significant, transient, a, R)} || R <- [normal, shutdown, {shutdown, done}]]).
z02(Log) -> auto(Log, any_significant, transient, a, boom).
z03(Log) -> maps:from_list([{word(R), auto(Log, any_significant, temporary, a, R)} || R <- [normal, shutdown, boom]]).
z04(Log) -> maps:from_list([{M, auto(Log, M, transient, z, normal)} || M <- [any_significant, all_significant]]).
z05(Log) ->
    Sup = significant(Log, any_significant, transient),
    supervisor:terminate_child(Sup, a),
    outcome_or_alive(Sup, Log).
z06(Log) ->
    Sup = significant(Log, all_significant, transient),
    end_child(Sup, a, normal),
    First = outcome_or_alive(Sup, Log),
    end_child(Sup, s, normal),
    Other = significant(Log, all_significant, transient),
    supervisor:terminate_child(Other, a),
    end_child(Other, s, normal),
    #{first => First, last => tree:exit_of(Sup), last_after_api_stop => tree:exit_of(Other)}.
z07(Log) ->
    Sup = fresh(#{auto_shutdown => any_significant, strategy => one_for_all},
                [spec("a", Log), spec("s", Log, #{significant => true, restart => temporary})], Log),
    end_child(Sup, a, boom),
    outcome_or_alive(Sup, Log).
nested(Log, Significant) ->
    Inner = #{id => inner, restart => temporary, significant => Significant, type => supervisor,
              start => {supervisor, start_link, [tree, {#{auto_shutdown => any_significant, intensity => 3, period => 5},
                  [spec("x", Log, #{significant => true, restart => temporary})]}]}},
    Sup = fresh(#{auto_shutdown => any_significant}, [Inner, spec("a", Log)], Log),
    I = tree:child(Sup, inner),
    Mon = monitor(process, I),
    tree:finish(I, x, normal),
    W = tree:down(Mon),
    tree:sync(Sup),
    #{inner => W, outer => case is_process_alive(Sup) of true -> alive; false -> tree:exit_of(Sup) end}.
z08(Log) -> #{significant => nested(Log, true), other => nested(Log, false)}.

%% A supervisor of many of a kind ends with the last of them, or with the first.
z09(Log) ->
    maps:from_list([begin
        {ok, Sup} = supervisor:start_link(tree, {#{strategy => simple_one_for_one, auto_shutdown => Mode, intensity => 3, period => 5},
            [#{id => a, start => {worker, start_link, []}, restart => temporary, significant => true}]}),
        [A, B] = [begin {ok, P} = supervisor:start_child(Sup, [#{name => N, log => Log}]), P end || N <- ["a", "b"]],
        log:take(Log),
        tree:finish(A, normal), tree:sync(Sup),
        First = is_process_alive(Sup),
        case First of true -> tree:finish(B, normal), tree:sync(Sup); false -> ok end,
        {Mode, #{after_one => First, exit => tree:exit_of(Sup), log => log:take(Log)}}
    end || Mode <- [any_significant, all_significant]]).

inner(Log, Flags, Names) ->
    #{id => inner, type => supervisor, start => {supervisor, start_link,
        [tree, {maps:merge(#{strategy => one_for_one, intensity => 0, period => 5}, Flags), letters(Names, Log)}]}}.
n01(Log) ->
    Outer = fresh(#{}, [inner(Log, #{}, "xy")], Log),
    Inner = tree:child(Outer, inner),
    supervisor:start_child(Inner, spec("added", Log)),
    log:take(Log),
    Mon = monitor(process, Inner),
    end_child(Inner, x, boom),
    W = tree:down(Mon),
    tree:sync(Outer),
    #{inner => W, ids => tree:ids(tree:child(Outer, inner)), log => log:take(Log)}.
n02(Log) ->
    Outer = fresh(#{intensity => 0}, [inner(Log, #{}, "x"), spec("z", Log)], Log),
    end_child(tree:child(Outer, inner), x, boom),
    #{exit => tree:exit_of(Outer), log => log:take(Log)}.
n03(Log) ->
    Outer = fresh(#{strategy => one_for_all}, [inner(Log, #{}, "x"), inner2(Log)], Log),
    Second = tree:child(Outer, inner2),
    supervisor:terminate_child(Second, y),
    log:take(Log),
    Mon = monitor(process, tree:child(Outer, inner)),
    exit(tree:child(Outer, inner), kill),
    tree:down(Mon), tree:sync(Outer),
    #{log => log:take(Log), inner => tree:states(tree:child(Outer, inner)), inner2 => tree:states(tree:child(Outer, inner2))}.
inner2(Log) -> (inner(Log, #{}, "yz"))#{id => inner2}.
n04(Log) ->
    Leaf = spec("leaf", Log, #{does => {fail, bad}}),
    Mid = #{id => mid, type => supervisor, start => {supervisor, start_link, [tree, {#{}, [Leaf]}]}},
    {error, {shutdown, {failed_to_start_child, A, {shutdown, {failed_to_start_child, B, C}}}}} =
        tree:start({raw, #{}, [Mid]}),
    [A, B, C].
