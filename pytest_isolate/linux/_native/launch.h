#ifndef ISOLATE_LAUNCH_H
#define ISOLATE_LAUNCH_H

/* Runs a program in a sandbox that stands ready and ends as that does; see launch.c. Never returns. */
_Noreturn void launch_main(int argc, char **argv);

#endif
