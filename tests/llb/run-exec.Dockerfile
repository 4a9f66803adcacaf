FROM base
RUN ["/bin/sh", "a b", "$X"]

# A command without a shell.
