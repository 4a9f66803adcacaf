/* What tests/programs.rs compiles and runs. */
#include <stdio.h>

int main(int argc, char **argv)
{
    printf("%d words, the last: %s\n", argc, argv[argc - 1]);
    return 3;
}
