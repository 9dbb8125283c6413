/* Where Python's small objects lie. */
#ifndef ISOLATE_ARENAS_H
#define ISOLATE_ARENAS_H

/* From now on the interpreter gets its arenas in aligned blocks of 2 MB. To be called once, with the GIL. */
void arenas_align(void);

#endif
