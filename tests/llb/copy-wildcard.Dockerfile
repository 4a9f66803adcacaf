FROM base
COPY a* d?r/[x-z] /x/

# Patterns.
