FROM base
COPY --chown=1 a /1
COPY --chown=1:2 a /2
COPY --chown=+3:4 a /3

# Owners by number.
