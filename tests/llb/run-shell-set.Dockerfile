FROM base
SHELL ["/bin/sh", "-e", "-c"]
RUN one

# Another shell.
