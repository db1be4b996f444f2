%% Supervisors for the scenarios, and the words the scenarios are written in.
-module(tree).
-behaviour(supervisor).
-export([init/1, start/2, start/1, spec/2, spec/3, script/1, child/2, state/2, ids/1, states/1, finish/2, finish/3]).
-export([end_child/3, sync/1, busy/2, exit_of/1, down/1, stop/2, answer/1, word/1, counts/1, queued/2]).

init(Fun) when is_function(Fun) -> Fun();
init({Flags, Specs}) -> {ok, {Flags, Specs}}.

start(Flags, Specs) ->
    {ok, Sup} = supervisor:start_link(?MODULE, {flags(Flags), Specs}),
    Sup.

%% As it answers, whatever comes of it.
start({raw, Flags, Specs}) -> supervisor:start_link(?MODULE, {flags(Flags), Specs});
start(Fun) -> supervisor:start_link(?MODULE, Fun).

flags(Flags) -> maps:merge(#{strategy => one_for_one, intensity => 3, period => 5}, Flags).

spec(Name, Log) -> spec(Name, Log, #{}).

%% Options of the worker and fields of the spec in one map.
spec(Name, Log, Options) ->
    Fields = maps:with([restart, shutdown, type, significant, id, start], Options),
    Worker = maps:without([restart, shutdown, type, significant, id, start], Options),
    maps:merge(#{id => list_to_atom(Name), start => {worker, start_link, [Worker#{name => Name, log => Log}]}}, Fields).

%% What the next starts do, one after the other; the last stays.
script(Outcomes) -> spawn(fun() -> said(Outcomes) end).

said([Last]) -> receive {Ref, From} -> From ! {Ref, Last}, said([Last]) end;
said([Next | Rest]) -> receive {Ref, From} -> From ! {Ref, Next}, said(Rest) end.

state(Sup, Id) ->
    {Id, State, _, _} = lists:keyfind(Id, 1, supervisor:which_children(Sup)),
    case State of
        Pid when is_pid(Pid) -> running;
        Other -> Other
    end.

child(Sup, Id) ->
    {Id, Pid, _, _} = lists:keyfind(Id, 1, supervisor:which_children(Sup)),
    true = is_pid(Pid),
    Pid.

ids(Sup) -> [Id || {Id, _, _, _} <- lists:reverse(supervisor:which_children(Sup))].

states(Sup) -> maps:from_list([{Id, state(Sup, Id)} || Id <- ids(Sup)]).

counts(Sup) -> maps:from_list(supervisor:count_children(Sup)).

%% Let a child end by itself with this reason and wait until it is gone; `killed` by a signal that nobody can trap.
finish(Sup, Id, Reason) -> finish(child(Sup, Id), Reason).
finish(Pid, Reason) ->
    Ref = monitor(process, Pid),
    case Reason of
        killed -> exit(Pid, kill);
        _ -> gen_server:cast(Pid, {stop, Reason})
    end,
    receive {'DOWN', Ref, process, Pid, _} -> ok end.

%% As finish, and the supervisor has dealt with it.
end_child(Sup, Id, Reason) -> finish(Sup, Id, Reason), sync(Sup).

sync(Sup) -> catch supervisor:which_children(Sup), ok.

%% Let `Fun` happen before the supervisor hears of it.
busy(Sup, Fun) ->
    ok = sys:suspend(Sup),
    R = Fun(),
    sys:resume(Sup),
    sync(Sup),
    R.

queued(Pid, N) ->
    case process_info(Pid, message_queue_len) of
        {_, Len} when Len >= N -> ok;
        _ -> timer:sleep(1), queued(Pid, N)
    end.

%% How a linked process ended, as a word; `alive` if it has not after a while.
exit_of(Pid) -> receive {'EXIT', Pid, R} -> word(R) after 2000 -> alive end.

down(Ref) -> receive {'DOWN', Ref, process, _, R} -> word(R) after 2000 -> nothing end.

stop(Sup, Reason) ->
    unlink(Sup),
    Ref = monitor(process, Sup),
    exit(Sup, Reason),
    receive {'DOWN', Ref, process, _, R} -> word(R) end.

word(R) -> iolist_to_binary(worker:word(R)).

answer(ok) -> ok;
answer({ok, undefined}) -> ignore;
answer({ok, Pid}) when is_pid(Pid) -> pid;
answer({ok, Pid, _}) when is_pid(Pid) -> pid;
answer({error, {already_started, _}}) -> already_started;
answer({error, A}) when is_atom(A) -> A;
answer({error, _}) -> error;
answer({'EXIT', {noproc, _}}) -> noproc;
answer({'EXIT', {timeout, _}}) -> timeout;
answer({'EXIT', {{nodedown, _}, _}}) -> noproc;
answer({'EXIT', _}) -> exit;
answer(Other) -> Other.
