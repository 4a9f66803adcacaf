{application, greeter,
 [{description, "Greets, counts, and ends"},
  {vsn, "1.0.0"},
  {modules, [greeter, greeter_app, greeter_sup]},
  {registered, [greeter, greeter_sup]},
  {applications, [kernel, stdlib]},
  {mod, {greeter_app, []}}]}.
