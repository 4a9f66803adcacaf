FROM base
COPY a b /x/

# Several files into a directory.
