FROM base
COPY --link a /x/
RUN x

# A layer of its own.
