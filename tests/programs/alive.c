/* Says hello, and lives until its standard input ends. */
#include <stdio.h>

int main(int argc, char **argv)
{
    printf("hello");
    for (int i = 1; i < argc; i++)
        printf(" %s", argv[i]);
    printf("\n");
    fflush(stdout);
    while (getchar() != EOF)
        ;
    return 0;
}
