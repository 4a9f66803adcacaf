FROM base
ARG A=1 B
ENV C=3 A=4
ARG B=2
RUN $A $B $C

# Arguments and variables.
