%% Greets three times and then ends the system. The first time it crashes, on purpose: what the
%% supervisor does about that is what Erlang is for.
-module(greeter).
-behaviour(gen_server).
-export([start_link/0, init/1, handle_call/3, handle_cast/2, handle_info/2]).

start_link() ->
    gen_server:start_link({local, ?MODULE}, ?MODULE, [], []).

init([]) ->
    Starts = persistent_term:get(starts, 0) + 1,
    persistent_term:put(starts, Starts),
    io:format("greeter: start ~b on Erlang/OTP ~s~n", [Starts, erlang:system_info(otp_release)]),
    self() ! greet,
    {ok, {Starts, 1}}.

handle_info(greet, {1, 2}) ->
    exit(normal_for_a_demonstration);
handle_info(greet, {_, 4}) ->
    init:stop(),
    {noreply, done};
handle_info(greet, {Starts, Count}) ->
    io:format("hello ~b from ~s~n", [Count, os:getenv("GREETER", "nobody")]),
    erlang:send_after(10, self(), greet),
    {noreply, {Starts, Count + 1}}.

handle_call(_Request, _From, State) ->
    {reply, ok, State}.

handle_cast(_Request, State) ->
    {noreply, State}.
