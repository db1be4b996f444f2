%% A list of events that all processes of a scenario append to, in the order in which it happened.
-module(log).
-export([start/0, add/2, take/1]).

start() -> spawn(fun() -> loop([]) end).

add(Log, Event) -> call(Log, {add, iolist_to_binary(Event)}).

%% All events so far; the log is empty afterwards.
take(Log) -> call(Log, take).

call(Log, What) ->
    Ref = make_ref(),
    Log ! {Ref, self(), What},
    receive {Ref, Answer} -> Answer end.

loop(Events) ->
    receive
        {Ref, From, {add, Event}} -> From ! {Ref, ok}, loop([Event | Events]);
        {Ref, From, take} -> From ! {Ref, lists:reverse(Events)}, loop([])
    end.
