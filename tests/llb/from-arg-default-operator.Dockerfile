ARG NAME
FROM ${NAME:-base}
RUN x

# Operators of expansion in FROM.
