FROM base
COPY --chown=user a /1
COPY --chown=user:staff a /2
COPY --chown=root:root a /3
COPY --chown=user:5 a /4

# Owners by name.
