%% The application: what the release starts.
-module(greeter_app).
-behaviour(application).
-export([start/2, stop/1]).

start(_Type, _Args) ->
    greeter_sup:start_link().

stop(_State) ->
    ok.
