FROM base
COPY ./dir/../a //dir//x /x//y/../

# Paths are cleaned.
