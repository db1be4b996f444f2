%% A child that writes down its life: +a started, ~a ignored, !a failed to start, -a reason when it ends.
-module(worker).
-behaviour(gen_server).
-export([start_link/1, init/1, handle_call/3, handle_cast/2, handle_info/2, handle_continue/2, terminate/2, word/1]).

start_link(#{register := Name} = O) -> gen_server:start_link({local, Name}, ?MODULE, O, []);
start_link(O) -> gen_server:start_link(?MODULE, O, []).

%% Options: name, log; trap (default true), script (a process that says what the next start does), slow (ms that
%% terminate takes), bad (terminate raises), notes (log every message).
init(#{name := Name, log := Log} = O) ->
    process_flag(trap_exit, maps:get(trap, O, true)),
    case script(O) of
        up -> log:add(Log, ["+", Name]), {ok, O};
        ignore -> log:add(Log, ["~", Name]), ignore;
        continue -> log:add(Log, ["+", Name]), {ok, O, {continue, first}};
        {timeout, Ms} -> log:add(Log, ["+", Name]), {ok, O, Ms};
        {slow, Ms} -> timer:sleep(Ms), log:add(Log, ["+", Name]), {ok, O};
        {call, Fun} -> Fun(), log:add(Log, ["+", Name]), {ok, O};
        {fail, R} -> log:add(Log, ["!", Name]), {stop, R};
        {exit, R} -> log:add(Log, ["!", Name]), exit(R);
        raise -> log:add(Log, ["!", Name]), error(boom);
        garbage -> log:add(Log, ["!", Name]), 42
    end.

script(#{script := Script}) ->
    Ref = make_ref(),
    Script ! {Ref, self()},
    receive {Ref, Said} -> Said end;
script(#{does := Does}) -> Does;
script(_) -> up.

handle_call(hello, _From, #{name := Name} = O) -> {reply, list_to_binary(Name), O};
handle_call({bump, N}, _From, O) ->
    V = maps:get(value, O, 0) + N,
    {reply, V, O#{value => V}};
handle_call(crash, _From, _O) -> error(boom);
handle_call({exit, R}, _From, _O) -> exit(R);
handle_call(garbage, _From, _O) -> 42;
handle_call({stop, R, Answer}, _From, O) -> {stop, R, Answer, O};
handle_call({stop, R}, _From, O) -> {stop, R, O};
handle_call(late, From, O) -> {noreply, O#{late => From}};
handle_call(is_late, _From, O) -> {reply, maps:is_key(late, O), O};
handle_call(who_is_late, _From, #{late := From} = O) -> {reply, From, O};
handle_call({sleep, Ms}, _From, O) -> timer:sleep(Ms), {reply, slept, O};
handle_call(self_call, _From, O) -> {reply, gen_server:call(self(), hello), O};
handle_call({note, What}, _From, #{log := Log} = O) -> log:add(Log, What), {reply, ok, O}.

handle_cast({stop, R}, O) -> {stop, R, O};
handle_cast(crash, _O) -> error(boom);
handle_cast({note, What}, #{log := Log} = O) -> log:add(Log, What), {noreply, O};
handle_cast({sleep, Ms}, O) -> timer:sleep(Ms), {noreply, O}.

handle_info(timeout, #{log := Log} = O) -> log:add(Log, "timeout"), {noreply, O};
handle_info({'EXIT', _, R}, #{log := Log, notes := true} = O) -> log:add(Log, ["exit ", word(R)]), {noreply, O};
handle_info({note, What}, #{log := Log} = O) -> log:add(Log, What), {noreply, O};
handle_info(_, O) -> {noreply, O}.

handle_continue(first, #{log := Log} = O) -> log:add(Log, "continue"), {noreply, O}.

terminate(R, #{name := Name, log := Log} = O) ->
    case O of
        #{slow := Ms} -> log:add(Log, ["<", Name]), timer:sleep(Ms), log:add(Log, [">", Name]);
        #{bad := true} -> log:add(Log, ["-", Name, " ", word(R)]), error(bad_end);
        _ -> log:add(Log, ["-", Name, " ", word(R)])
    end.

%% A reason in our five words.
word(normal) -> "normal";
word(shutdown) -> "shutdown";
word({shutdown, D}) when is_atom(D) -> ["shutdown ", atom_to_list(D)];
word({shutdown, _}) -> "shutdown";
word(killed) -> "killed";
word(noproc) -> "noproc";
word(_) -> "crash".
