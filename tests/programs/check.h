/* Checks for programs that test system calls: each says where it failed, and goes on. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int checks, failures;

static void check(int good, const char *what, int line)
{
    checks++;
    if (good)
        return;
    failures++;
    printf("line %d: %s (errno %d: %s)\n", line, what, errno, strerror(errno));
}

/* It holds. */
#define CHECK(what) check(what, #what, __LINE__)
/* The call fails with this error. */
#define FAILS(error, call) \
    do { \
        errno = 0; \
        long result = (call); \
        check(result == -1 && errno == (error), #call " fails with " #error, __LINE__); \
    } while (0)

/* The program's last words, and its status. */
static int report(void)
{
    printf("%d checks, %d failures\n", checks, failures);
    return failures != 0;
}
