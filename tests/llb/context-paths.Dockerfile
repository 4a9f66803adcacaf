FROM base
COPY a dir/x /1/
COPY dir/../b /2/
FROM base
COPY --from=0 /1 /3/
COPY archive.tar /

# What is copied is all that is asked of the context.
