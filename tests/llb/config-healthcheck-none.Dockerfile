FROM base
HEALTHCHECK NONE

# No health check.
