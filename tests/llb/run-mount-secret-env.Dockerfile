FROM base
RUN --mount=type=secret,id=x,env=X echo $X
RUN --mount=type=secret,id=x,env=X,target=/x echo ${X}

# As a variable.
