FROM base
ARG A=1
ENV A=2
RUN $A
ARG A=3
RUN $A

# ENV and ARG of one name.
# build: --build-arg A=4
