%% Terms to JSON text: maps, lists, numbers, atoms and binaries. `undefined` and `nil` are null.
-module(encode).
-export([json/1, write/2, error_word/1]).

write(Path, Term) -> ok = file:write_file(Path, [json(Term), "\n"]).

json(true) -> <<"true">>;
json(false) -> <<"false">>;
json(undefined) -> <<"null">>;
json(nil) -> <<"null">>;
json(A) when is_atom(A) -> json(atom_to_binary(A));
json(N) when is_integer(N) -> integer_to_binary(N);
json(F) when is_float(F) -> io_lib:format("~p", [F]);
json(B) when is_binary(B) -> [$", [escape(C) || C <- binary_to_list(B)], $"];
json(L) when is_list(L) -> [$[, lists:join($,, [json(E) || E <- L]), $]];
json(T) when is_tuple(T) -> json(tuple_to_list(T));
json(M) when is_map(M) ->
    [${, lists:join($,, [[json(key(K)), $:, json(V)] || {K, V} <- lists:sort(maps:to_list(M))]), $}].

key(K) when is_atom(K) -> atom_to_binary(K);
key(K) when is_integer(K) -> integer_to_binary(K);
key(K) -> K.

escape($") -> "\\\"";
escape($\\) -> "\\\\";
escape($\n) -> "\\n";
escape(C) -> C.

%% The first word of an error: what it is called, without the values.
error_word({error, E}) -> error_word(E);
error_word({supervisor_data, E}) -> error_word(E);
error_word({start_spec, E}) -> error_word(E);
error_word(T) when is_tuple(T), tuple_size(T) > 0 -> error_word(element(1, T));
error_word(A) when is_atom(A) -> A;
error_word(_) -> other.
