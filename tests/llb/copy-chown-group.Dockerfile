FROM base
COPY --chown=:5 a /1

# No user, but a group.
