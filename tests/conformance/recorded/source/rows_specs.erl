%% Sections C and S: child specs, starting a tree.
-module(rows_specs).
-export([rows/0]).
-import(tree, [spec/2, spec/3, script/1, word/1]).
-import(encode, [error_word/1]).

rows() ->
    [{c01, fun c01/1}, {c02, fun c02/1}, {c04, fun c04/1}, {c05, fun c05/1}, {c06, fun c06/1}, {c07, fun c07/1},
     {c08, fun c08/1}, {c13, fun c13/1}, {c14, fun c14/1}, {c15, fun c15/1}, {c16, fun c16/1}, {c17, fun c17/1},
     {c20, fun c20/1}, {c21, fun c21/1}, {c22, fun c22/1}, {c23, fun c23/1},
     {s01, fun s01/1}, {s02, fun s02/1}, {s03, fun s03/1}, {s04, fun s04/1}, {s05, fun s05/1}, {s06, fun s06/1}, {s07, fun s07/1},
     {s08, fun s08/1}, {s09, fun s09/1}, {s10, fun s10/1}, {s11, fun s11/1}, {s12, fun s12/1}, {s13, fun s13/1},
     {s14, fun s14/1}, {s15, fun s15/1}, {s16, fun s16/1}, {s18, fun s18/1}, {s19, fun s19/1}].

c01(Log) ->
    Sup = tree:start(#{}, [spec("a", Log)]),
    {ok, S} = supervisor:get_childspec(Sup, a),
    maps:with([restart, shutdown, type, significant], S).

c02(Log) ->
    Sup = tree:start(#{}, [spec("a", Log, #{type => supervisor})]),
    {ok, S} = supervisor:get_childspec(Sup, a),
    maps:with([shutdown, type], S).

refused(Flags, Specs) ->
    case tree:start({raw, Flags, Specs}) of
        {ok, _} -> ok;
        Error -> error_word(Error)
    end.

c04(Log) ->
    R = refused(#{}, [spec("a", Log), spec("a", Log)]),
    #{answer => R, log => log:take(Log)}.

c05(_) ->
    #{id => refused(#{}, [#{start => {worker, start_link, []}}]), start => refused(#{}, [#{id => a}])}.

each(Log, Flags, Key, Values) ->
    maps:from_list([{key(V), refused(Flags, [spec("a", Log, #{Key => V})])} || V <- Values]).

key(V) when is_atom(V); is_integer(V) -> V;
key(V) -> iolist_to_binary(io_lib:format("~p", [V])).

c06(Log) -> each(Log, #{}, restart, [permanent, transient, temporary, always, 1]).
c07(Log) ->
    #{worker => each(Log, #{}, shutdown, [0, 10, infinity, brutal_kill, -10, never]),
      supervisor => maps:from_list([{key(V), refused(#{}, [spec("a", Log, #{shutdown => V, type => supervisor})])}
                                    || V <- [0, 10, infinity, brutal_kill, -10, never]])}.
c08(Log) -> each(Log, #{}, type, [worker, supervisor, boss]).
c13(Log) ->
    S = spec("a", Log, #{significant => true, restart => temporary}),
    Sup = tree:start(#{}, []),
    #{init => refused(#{}, [S]), start_child => error_word(supervisor:start_child(Sup, S)),
      any_significant => refused(#{auto_shutdown => any_significant}, [S]),
      all_significant => refused(#{auto_shutdown => all_significant}, [S])}.
c14(Log) ->
    maps:from_list([{R, refused(#{auto_shutdown => any_significant}, [spec("a", Log, #{significant => true, restart => R})])}
                    || R <- [permanent, transient, temporary]]).
c15(Log) -> each(Log, #{auto_shutdown => any_significant}, significant, [false, 1]).
c16(Log) ->
    #{good => error_word(supervisor:check_childspecs([spec("a", Log)])),
      twice => error_word(supervisor:check_childspecs([spec("a", Log), spec("a", Log)])),
      bad => error_word(supervisor:check_childspecs([spec("a", Log, #{restart => always})])),
      no_list => error_word(supervisor:check_childspecs(spec("a", Log))),
      log => log:take(Log)}.
c17(_) ->
    F = fun(K, V) -> refused(#{K => V}, []) end,
    #{strategy => F(strategy, best), intensity_negative => F(intensity, -1), intensity_infinity => F(intensity, infinity),
      period_zero => F(period, 0), period_infinity => F(period, infinity), period_float => F(period, 1.5),
      auto_shutdown => F(auto_shutdown, sometimes)}.
c20(_) -> error_word(tree:start(fun() -> 42 end)).
c21(_) ->
    {error, {boom, _}} = tree:start(fun() -> error(boom) end),
    #{answer => error, exit => receive {'EXIT', _, R} -> word(R) end}.
c22(_) -> #{answer => tree:start(fun() -> ignore end), exit => receive {'EXIT', _, R} -> word(R) end}.
c23(Log) ->
    Sup = tree:start(#{}, [spec("a", Log)]),
    {ok, S} = supervisor:get_childspec(Sup, a),
    #{keys => lists:sort(maps:keys(S)), unknown => error_word(supervisor:get_childspec(Sup, b))}.

s01(Log) ->
    tree:start(#{}, [spec("a", Log, #{does => {slow, 20}}), spec("b", Log), spec("c", Log)]),
    log:take(Log).

s02(Log) ->
    Me = self(),
    Wait = fun() -> Me ! {held, self()}, receive go -> ok end end,
    Specs = [spec("a", Log), spec("b", Log), spec("c", Log, #{does => {call, Wait}})],
    spawn_link(fun() -> tree:start(#{}, Specs), Me ! up, receive never -> ok end end),
    receive {held, C} -> ok end,
    Early = receive up -> true after 20 -> false end,
    C ! go,
    receive up -> ok end,
    #{returned_early => Early, log => log:take(Log)}.

s03(Log) ->
    {error, {shutdown, {failed_to_start_child, Id, _}}} =
        tree:start({raw, #{}, [spec("a", Log), spec("b", Log), spec("c", Log, #{does => {fail, bad}}), spec("d", Log)]}),
    #{failed => Id, exit => receive {'EXIT', _, R} -> word(R) end, log => log:take(Log)}.

start_child(Log, Does) -> supervisor:start_child(tree:start(#{}, []), spec("a", Log, #{does => Does})).

s04(Log) ->
    F = fun(Does) -> tree:answer(start_child(Log, Does)) end,
    #{stop_normal => F({fail, normal}), stop_shutdown => F({fail, shutdown}), stop_bad => F({fail, bad}),
      exit_normal => F({exit, normal}), exit_bad => F({exit, bad})}.
s05(Log) ->
    {error, {{boom, Stack}, _}} = start_child(Log, raise),
    #{reason => boom, has_stack => is_list(Stack)}.
s06(Log) -> {error, {{bad_return_value, V}, _}} = start_child(Log, garbage), #{answer => bad_return_value, value => V}.
s07(Log) ->
    maps:from_list([begin
        Sup = tree:start(#{}, [spec("a", Log, #{does => ignore, restart => R})]),
        {R, #{states => tree:states(Sup), counts => tree:counts(Sup)}}
    end || R <- [permanent, transient, temporary]]).
s08(_) ->
    F = fun(Fun) ->
        Sup = tree:start(#{}, []),
        A = supervisor:start_child(Sup, #{id => a, start => {erlang, apply, [Fun, []]}}),
        #{answer => tree:answer(A), alive => is_process_alive(Sup), ids => tree:ids(Sup)}
    end,
    #{raises => F(fun() -> error(boom) end), exits => F(fun() -> exit(bye) end), throws => F(fun() -> throw(ball) end),
      garbage => F(fun() -> 42 end)}.
s09(Log) ->
    F = fun() -> {ok, Pid} = worker:start_link(#{name => "a", log => Log}), {ok, Pid, info} end,
    Sup = tree:start(#{}, []),
    {ok, _, Info} = supervisor:start_child(Sup, #{id => a, start => {erlang, apply, [F, []]}}),
    tree:end_child(Sup, a, boom),
    #{info => Info, log => log:take(Log)}.
s10(Log) ->
    Sup = tree:start(#{intensity => 0}, [spec("b", Log)]),
    A = supervisor:start_child(Sup, spec("a", Log, #{does => {fail, bad}})),
    #{answer => tree:answer(A), ids => tree:ids(Sup), alive => is_process_alive(Sup)}.
s11(Log) ->
    Sup = tree:start(#{}, [spec("a", Log, #{script => script([up, {fail, bad}, up])})]),
    supervisor:terminate_child(Sup, a),
    A = tree:answer(supervisor:restart_child(Sup, a)),
    S = tree:states(Sup),
    #{answer => A, states => S, again => tree:answer(supervisor:restart_child(Sup, a))}.

%% a dies while b is in its init.
dies_meanwhile(Log, More) ->
    Me = self(),
    Kill = fun() -> Me ! {kill, self()}, receive killed -> ok end end,
    {Sup, Mon} = spawn_monitor(fun() ->
        process_flag(trap_exit, true),
        R = tree:start({raw, #{}, [spec("a", Log, #{register => first_child}), spec("b", Log, #{does => {call, Kill}}) | More]}),
        case R of
            {ok, S} -> A = tree:states(S), tree:stop(S, shutdown), exit({answer, A});
            E -> exit({answer, error_word(E)})
        end
    end),
    receive {kill, B} -> tree:finish(whereis(first_child), boom), B ! killed end,
    receive {'DOWN', Mon, process, Sup, {answer, A}} -> #{answer => A, log => log:take(Log)} end.
s12(Log) -> dies_meanwhile(Log, []).
s13(Log) -> dies_meanwhile(Log, [spec("c", Log, #{does => {fail, bad}})]).

s14(Log) ->
    Sup = tree:start(#{}, []),
    Child = spawn_link(fun() -> supervisor:start_child(Sup, spec("a", Log, #{does => {slow, 300}})) end),
    tree:queued(Child, 0), timer:sleep(20),
    #{while_starting => tree:answer(catch gen_server:call(Sup, which_children, 100))}.
s15(Log) ->
    R = gen_server:start_link(worker, #{name => "a", log => Log, does => {slow, 300}}, [{timeout, 20}]),
    #{answer => tree:answer(R), log => log:take(Log)}.
s16(Log) ->
    {ok, Pid} = worker:start_link(#{name => "x", log => Log, register => taken}),
    {error, {already_started, P2}} = worker:start_link(#{name => "y", log => Log, register => taken}),
    R = tree:start({raw, #{}, [spec("y", Log, #{register => taken})]}),
    #{same => Pid =:= P2, child => element(1, R), word => error_word(R)}.
s18(Log) ->
    Early = fun() -> self() ! {note, "early message"} end,
    Pid = element(2, gen_server:start_link(worker, #{name => "a", log => Log, does => continue}, [])),
    gen_server:call(Pid, {note, "call"}),
    Early(), log:take(Log).
s19(Log) ->
    {ok, A} = worker:start_link(#{name => "a", log => Log, does => {timeout, 20}}),
    {ok, B} = worker:start_link(#{name => "b", log => Log, does => {timeout, 50}}),
    B ! anything,
    timer:sleep(120), gen_server:call(A, hello),
    log:take(Log).
