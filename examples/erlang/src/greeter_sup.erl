%% Watches the greeter, and starts it again when it crashes.
-module(greeter_sup).
-behaviour(supervisor).
-export([start_link/0, init/1]).

start_link() ->
    supervisor:start_link({local, ?MODULE}, ?MODULE, []).

init([]) ->
    Greeter = #{id => greeter, start => {greeter, start_link, []}},
    {ok, {#{strategy => one_for_one}, [Greeter]}}.
