/* What a system call costs, in ticks of the counter for 1000 of them. Under icount a tick is 16
 * instructions. */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static unsigned long ticks(void)
{
    unsigned long ticks;
    __asm__ volatile("isb; mrs %0, cntvct_el0" : "=r"(ticks)::"memory");
    return ticks;
}

#define COST(name, call) \
    do { \
        unsigned long start = ticks(); \
        for (int i = 0; i < 1000; i++) \
            call; \
        printf("%s %lu\n", name, (ticks() - start) * 16 / 1000); \
    } while (0)

int main(void)
{
    struct timespec time;
    struct stat stat_of;
    char byte;
    int fd = open("/etc/motd", O_RDONLY);
    COST("getppid", getppid());
    COST("clock_gettime", clock_gettime(CLOCK_MONOTONIC, &time));
    COST("pread64", pread(fd, &byte, 1, 0));
    COST("fstat", fstat(fd, &stat_of));
    COST("newfstatat", stat("/etc/motd", &stat_of));
    COST("openat+close", close(open("/etc/motd", O_RDONLY)));
    COST("write", write(2, "", 1));
    return 0;
}
