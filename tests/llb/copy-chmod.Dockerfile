FROM base
COPY --chmod=644 a /1
COPY --chmod=4755 a /2
COPY --chmod=0 a /3

# Modes as numbers.
