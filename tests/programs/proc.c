/* What a container tells of itself in /proc, /sys and /dev, and files until memory ends. */
#define _GNU_SOURCE
#include "check.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/utsname.h>

static char text[16384];

/* All of a file, as a string. */
static const char *slurp(const char *path)
{
    int fd = open(path, O_RDONLY);
    ssize_t done = 0, part;
    while (fd >= 0 && (part = read(fd, text + done, sizeof text - 1 - done)) > 0)
        done += part;
    text[done] = 0;
    if (fd >= 0)
        close(fd);
    return fd >= 0 ? text : "";
}

static long number(const char *path, const char *name)
{
    const char *at = strstr(slurp(path), name);
    return at ? strtol(at + strlen(name), NULL, 10) : -1;
}

static void process(void)
{
    char link[64] = "";
    CHECK(readlink("/proc/self", link, 64) == 1 && !strcmp(link, "1"));
    memset(link, 0, 64);
    CHECK(readlink("/proc/self/exe", link, 64) == 9 && !strcmp(link, "/bin/tool"));
    memset(link, 0, 64);
    CHECK(readlink("/proc/self/cwd", link, 64) == 4 && !strcmp(link, "/etc"));
    int fd = open("/proc/self/exe", O_RDONLY);
    CHECK(read(fd, link, 4) == 4 && !memcmp(link, "\177ELF", 4));
    close(fd);
    CHECK(!memcmp(slurp("/proc/self/cmdline"), "/bin/tool\0one two\0", 18));
    CHECK(!strcmp(slurp("/proc/self/environ"), "HELLO=WORLD"));
    CHECK(!strcmp(slurp("/proc/self/comm"), "tool\n"));
    CHECK(number("/proc/self/status", "Pid:\t") == 1 && number("/proc/self/status", "VmRSS:") > 0);
    CHECK(!strncmp(slurp("/proc/self/stat"), "1 (tool) R 0 1 1 ", 17));
    CHECK(strtol(slurp("/proc/self/statm"), NULL, 10) > 10);
    const char *maps = slurp("/proc/self/maps");
    CHECK(strstr(maps, "/bin/tool\n") && strstr(maps, "[heap]\n") && strstr(maps, "[stack]\n"));
    int inside = 0;
    for (const char *line = maps; *line; line = strchr(line, '\n') + 1) {
        unsigned long start, end, here = (unsigned long)process;
        char mode[5];
        CHECK(sscanf(line, "%lx-%lx %4s", &start, &end, mode) == 3 && start < end);
        inside += start <= here && here < end && !strcmp(mode, "r-xp");
    }
    CHECK(inside == 1);
    CHECK(strstr(slurp("/proc/self/smaps"), "Private_Dirty:") != NULL);
    CHECK(strstr(slurp("/proc/self/limits"), "Max open files            1024") != NULL);
    CHECK(strstr(slurp("/proc/self/mountinfo"), " / / rw") && strstr(slurp("/proc/mounts"), "/dev"));
    CHECK(!strcmp(slurp("/proc/self/cgroup"), "0::/\n"));
    CHECK(!strcmp(slurp("/proc/self/oom_score_adj"), "0\n"));
    fd = open("/proc/self/oom_score_adj", O_WRONLY);
    CHECK(write(fd, "500\n", 4) == 4);
    FAILS(EINVAL, write(fd, "2000", 4));
    close(fd);
    CHECK(!strcmp(slurp("/proc/self/oom_score_adj"), "500\n"));
    DIR *dir = opendir("/proc/self/task");
    int tasks = 0;
    for (struct dirent *entry; (entry = readdir(dir));)
        tasks += entry->d_name[0] != '.';
    closedir(dir);
    CHECK(tasks == 1);
}

static void machine(void)
{
    struct utsname name;
    CHECK(uname(&name) == 0);
    strcat(name.release, "\n");
    CHECK(!strcmp(slurp("/proc/sys/kernel/osrelease"), name.release));
    CHECK(number("/proc/meminfo", "MemTotal:") >= number("/proc/meminfo", "MemFree:"));
    CHECK(number("/proc/meminfo", "MemAvailable:") > 0);
    CHECK(strstr(slurp("/proc/cpuinfo"), "Features\t: fp asimd") != NULL);
    CHECK(!strncmp(slurp("/proc/stat"), "cpu  ", 5) && atof(slurp("/proc/uptime")) > 0);
    CHECK(number("/proc/loadavg", "") == 0 && !strncmp(slurp("/proc/version"), "Linux version ", 14));
    CHECK(number("/proc/sys/net/core/somaxconn", "") == 4096);
    CHECK(number("/proc/sys/kernel/pid_max", "") == 32768);
    char boot[64], first[64];
    strcpy(boot, slurp("/proc/sys/kernel/random/boot_id"));
    CHECK(strlen(boot) == 37 && boot[14] == '4' && boot[23] == '-');
    CHECK(!strcmp(boot, slurp("/proc/sys/kernel/random/boot_id")));
    strcpy(first, slurp("/proc/sys/kernel/random/uuid"));
    CHECK(strlen(first) == 37 && strcmp(first, slurp("/proc/sys/kernel/random/uuid")));
    CHECK(!strcmp(slurp("/sys/devices/system/cpu/online"), "0\n"));
    CHECK(sysconf(_SC_NPROCESSORS_ONLN) == 1);
    CHECK(strstr(slurp("/sys/kernel/mm/transparent_hugepage/enabled"), "[never]") != NULL);
    DIR *dir = opendir("/sys/fs/cgroup");
    CHECK(dir && readdir(dir) && readdir(dir) && !readdir(dir));
    closedir(dir);
}

static void devices(void)
{
    char link[64] = "";
    struct stat s;
    CHECK(stat("/dev/null", &s) == 0 && S_ISCHR(s.st_mode) && s.st_rdev == 0x103);
    CHECK(lstat("/dev/fd", &s) == 0 && S_ISLNK(s.st_mode));
    CHECK(stat("/dev/shm", &s) == 0 && s.st_mode == (S_IFDIR | 01777));
    int fd = open("/dev/shm/mine", O_RDWR | O_CREAT | O_EXCL, 0600);
    snprintf(text, sizeof text, "/dev/fd/%d", fd);
    CHECK(readlink(text, link, 64) == 13 && !strcmp(link, "/dev/shm/mine"));
    CHECK(write(fd, "x", 1) == 1 && unlink("/dev/shm/mine") == 0);
    close(fd);
    CHECK(write(open("/dev/stderr", O_WRONLY), "to stderr\n", 10) == 10);
    FAILS(ENXIO, open("/dev/tty", O_RDWR));
    FAILS(ENOENT, open("/dev/ptmx", O_RDWR));
}

/* Files take all memory that there is, say so, and give it back. */
static void filling(void)
{
    struct statfs s;
    memset(text, 'x', 4096);
    long first = 0;
    for (int round = 0; round < 3; round++) {
        CHECK(statfs("/", &s) == 0 && s.f_bfree > 100 && s.f_bfree <= s.f_blocks);
        long pages = 0, part;
        int fd = open("/full", O_RDWR | O_CREAT | O_TRUNC, 0600);
        while ((part = write(fd, text, 4096)) == 4096)
            pages++;
        CHECK(part == -1 && errno == ENOSPC);
        CHECK(pages > 300 && (round == 0 || pages == first));
        first = pages;
        struct stat full;
        CHECK(fstat(fd, &full) == 0 && full.st_size == pages * 4096 && full.st_blocks == pages * 8);
        CHECK(pread(fd, text, 4096, (pages - 1) * 4096) == 4096 && text[4095] == 'x');
        /* Everything else goes on. */
        CHECK(stat("/etc/motd", &full) == 0 && full.st_size == 16);
        FAILS(ENOSPC, pwrite(fd, text, 4096, pages * 4096));
        CHECK(unlink("/full") == 0 && close(fd) == 0);
    }
    int fd = open("/small", O_RDWR | O_CREAT, 0600);
    CHECK(write(fd, "abc", 3) == 3 && ftruncate(fd, 1L << 40) == 0 && close(fd) == 0);
    CHECK(unlink("/small") == 0);
}

int main(void)
{
    process();
    machine();
    devices();
    filling();
    return report();
}
