/* The parts of the noise of philox.py that every machine computes to the same bit: random integers as uniforms, and the
 * sums around the normals. Logarithm, root, sine and cosine stay torch's own, whose last bits no other library has.
 * Compiled without contraction of products and sums: each is rounded, as torch rounds it.
 */
#include <stddef.h>
#include <stdint.h>

#define ROUNDS 10
#define GROUP 16 /* counter blocks made together; each is eight 32-bit words */
#define WORDS 8

static const uint64_t MULTIPLIER[2] = {0xD2E7470EE14C6C93u, 0xCA5A826395121157u};
static const uint64_t WEYL[2] = {0x9E3779B97F4A7C15u, 0xBB67AE8584CAA73Bu};

#ifdef __AVX512DQ__
/* Eight counters side by side, their 64-bit products by 32-bit limbs. */
#define LANES 8
typedef uint64_t lanes __attribute__((vector_size(8 * LANES)));
#define LOW 0xFFFFFFFFu

static inline __attribute__((always_inline)) lanes product(lanes a, uint64_t m, lanes *low)
{
    lanes a0 = a & LOW, a1 = a >> 32;
    uint64_t m0 = m & LOW, m1 = m >> 32;
    lanes p00 = a0 * m0, p01 = a0 * m1;
    lanes middle = (p00 >> 32) + (p01 & LOW) + a1 * m0; /* at most 2^64 - 1 */
    *low = (middle << 32) | (p00 & LOW);
    return a1 * m1 + (p01 >> 32) + (middle >> 32);
}

static void make(uint64_t first, uint64_t draw, uint64_t k0, uint64_t k1, uint64_t *out)
{
    enum { SETS = GROUP / LANES };
    lanes c0[SETS], c1[SETS], c2[SETS], c3[SETS];
    for (int s = 0; s < SETS; s++)
        for (int l = 0; l < LANES; l++) {
            c0[s][l] = first + (uint64_t)(s * LANES + l);
            c2[s][l] = draw;
            c1[s][l] = c3[s][l] = 0;
        }
    for (int r = 0; r < ROUNDS; r++) {
        for (int s = 0; s < SETS; s++) {
            lanes low0, low1;
            lanes high0 = product(c0[s], MULTIPLIER[0], &low0), high1 = product(c2[s], MULTIPLIER[1], &low1);
            c0[s] = high1 ^ c1[s] ^ k0;
            c2[s] = high0 ^ c3[s] ^ k1;
            c1[s] = low1;
            c3[s] = low0;
        }
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
    for (int s = 0; s < SETS; s++)
        for (int l = 0; l < LANES; l++, out += 4) {
            out[0] = c0[s][l];
            out[1] = c1[s][l];
            out[2] = c2[s][l];
            out[3] = c3[s][l];
        }
}
#else
static void make(uint64_t first, uint64_t draw, uint64_t k0i, uint64_t k1i, uint64_t *out)
{
    for (int b = 0; b < GROUP; b++, out += 4) {
        uint64_t c0 = first + (uint64_t)b, c1 = 0, c2 = draw, c3 = 0, k0 = k0i, k1 = k1i;
        for (int r = 0; r < ROUNDS; r++) {
            unsigned __int128 p0 = (unsigned __int128)c0 * MULTIPLIER[0], p1 = (unsigned __int128)c2 * MULTIPLIER[1];
            c0 = (uint64_t)(p1 >> 64) ^ c1 ^ k0;
            c2 = (uint64_t)(p0 >> 64) ^ c3 ^ k1;
            c1 = (uint64_t)p1;
            c3 = (uint64_t)p0;
            k0 += WEYL[0];
            k1 += WEYL[1];
        }
        out[0] = c0;
        out[1] = c1;
        out[2] = c2;
        out[3] = c3;
    }
}
#endif

/* Radii's uniforms and angles, (copies, 8 * half) each: a copy's first `half` counter blocks, and its second. */
void uniforms(float *radius, float *angle, uint64_t first, size_t copies, size_t half, uint64_t draw, uint64_t k0,
              uint64_t k1, float step, float offset, float turn)
{
    size_t blocks = 2 * half * copies, within = 0; /* of the copy in hand */
    for (size_t done = 0; done < blocks; done += GROUP) {
        uint64_t words[4 * GROUP];
        uint32_t block[WORDS];
        size_t there = blocks - done < GROUP ? blocks - done : GROUP;
        make(first + done, draw, k0, k1, words);
        for (size_t b = 0; b < there; b++) {
            for (int i = 0; i < WORDS; i++) /* the low half of a 64-bit word first, on every machine */
                block[i] = (uint32_t)(words[4 * b + (size_t)i / 2] >> (32 * (i % 2)));
            if (within < half) {
                for (int i = 0; i < WORDS; i++) radius[i] = (float)block[i] * step + offset;
                radius += WORDS;
            } else {
                for (int i = 0; i < WORDS; i++) angle[i] = (float)block[i] * turn;
                angle += WORDS;
            }
            within = within + 1 == 2 * half ? 0 : within + 1;
        }
    }
}

/* Radii times cosines, then times sines, into each copy's halves; times sigma, plus pixels, where there are any. */
void normals(float *out, const float *radius, const float *cosine, const float *sine, const float *pixels,
             float sigma, size_t copies, size_t half)
{
    for (size_t c = 0; c < copies; c++) {
        for (size_t i = 0; i < half; i++) {
            out[i] = radius[i] * cosine[i];
            out[half + i] = radius[i] * sine[i];
        }
        if (pixels)
            for (size_t i = 0; i < 2 * half; i++) out[i] = out[i] * sigma + pixels[i];
        out += 2 * half;
        radius += half;
        cosine += half;
        sine += half;
    }
}
