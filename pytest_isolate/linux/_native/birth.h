/* Has the fork that follows put its child into a control group of v2 from the first moment on: birth.c. */
#ifndef ISOLATE_BIRTH_H
#define ISOLATE_BIRTH_H

/* In the helper, before it joins a sandbox, whose mounts may not show the group. `files`: those to enter groups by. */
void birth_prepare(const int *files, int count);

/* In the helper, after that: its next fork() makes the child there. Where that can't be, it makes it as always. */
void birth_arm(void);

/* In the child: the file whose group it was born in, or -1. */
int birth_file(void);

#endif
