FROM base
COPY . /app/

# All of the context.
