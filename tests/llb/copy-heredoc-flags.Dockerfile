FROM base
COPY --chmod=755 --chown=1:2 <<run /x/
#!/bin/sh
run
COPY --link <<b /y
b2
b

# With flags.
