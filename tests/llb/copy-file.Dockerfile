FROM base
COPY a /x

# One file.
