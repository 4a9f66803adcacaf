FROM base
RUN echo $HOME "$X" 'y'

# A command for the shell.
