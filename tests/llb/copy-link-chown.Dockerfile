FROM base
COPY --link --chown=1:2 a /x/

# With an owner it is.
