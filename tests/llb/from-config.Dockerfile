FROM full
RUN x
COPY a .
WORKDIR sub
ENV MORE=$SET

# What an image says holds for what is done on it.
