FROM base
COPY --link --chmod=600 a /x/

# With a mode it is no layer of its own.
