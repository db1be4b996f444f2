%% What supervisors and dying servers tell the log, in a word each.
-module(reports).
-export([during/1, log/2]).

%% The reports that are written while `Fun` runs, in their order.
during(Fun) ->
    ok = logger:set_handler_config(default, level, none),
    ok = logger:add_handler(?MODULE, ?MODULE, #{config => self()}),
    ok = logger:set_primary_config(level, error),
    Fun(),
    ok = logger:set_primary_config(level, none),
    ok = logger:remove_handler(?MODULE),
    seen().

log(#{msg := {report, #{label := Label}}}, #{config := Pid}) -> Pid ! {reported, word(Label)};
log(_, _) -> ok.

word({supervisor, Context}) -> Context;
word({gen_server, terminate}) -> server;
word({proc_lib, crash}) -> crash;
word(_) -> other.

seen() -> receive {reported, Word} -> [Word | seen()] after 0 -> [] end.
