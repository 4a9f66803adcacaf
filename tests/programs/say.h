/* Says what came of each call, for programs whose words under Linux and in a container are
 * compared. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *strerrorname(int number)
{
    static char text[32];
    snprintf(text, sizeof text, "error %d", number);
    return text;
}

/* A call with its result, or the number of its error. */
#define SAY(call) \
    do { \
        errno = 0; \
        long result = (call); \
        if (result == -1) \
            printf("%d: %s: %s\n", __LINE__, #call, strerrorname(errno)); \
        else \
            printf("%d: %s = %ld\n", __LINE__, #call, result); \
        fflush(stdout); \
    } while (0)
/* The same for a call that gives a descriptor, whose number depends on what else is open. */
#define OPENS(call) \
    do { \
        errno = 0; \
        if ((call) < 0) \
            printf("%d: %s: %s\n", __LINE__, #call, strerrorname(errno)); \
        else \
            printf("%d: %s\n", __LINE__, #call); \
        fflush(stdout); \
    } while (0)
