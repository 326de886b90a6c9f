/*
 * The peer of locate: ask the kernel for the users of many logical addresses of a mounted filesystem.
 *
 *     cc -O2 -o logical_ino_loop logical_ino_loop.c && ./logical_ino_loop MOUNT < addresses
 *
 * One address a line. Each is one BTRFS_IOC_LOGICAL_INO, which gives inode, offset and root of the file extents that
 * hold the byte; paths would be another call for each. Prints addresses and users; exits 1 if a call fails for another
 * reason than that no extent is there. Needs root.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/btrfs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/ioctl.h>

enum { ROOM = 64 << 10 };	/* of the answer: what the first version of the call allows */

int main(int argc, char **argv)
{
	unsigned long addresses = 0, users = 0;
	unsigned long long logical;
	struct btrfs_data_container *found;
	int fd;

	if (argc != 2) {
		fprintf(stderr, "usage: logical_ino_loop MOUNT < addresses\n");
		return 2;
	}
	found = malloc(ROOM);
	fd = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (!found || fd < 0) {
		perror(argv[1]);
		return 1;
	}
	while (scanf("%llu", &logical) == 1) {
		struct btrfs_ioctl_logical_ino_args args = {
			.logical = logical,
			.size = ROOM,
			.inodes = (uintptr_t)found,
		};

		addresses++;
		if (ioctl(fd, BTRFS_IOC_LOGICAL_INO, &args) == 0) {
			users += found->elem_cnt / 3;
		} else if (errno != ENOENT && errno != EINVAL) {
			perror("BTRFS_IOC_LOGICAL_INO");
			return 1;
		}
	}
	printf("%lu addresses, %lu users\n", addresses, users);
	return 0;
}
