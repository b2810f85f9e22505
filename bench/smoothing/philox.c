/* The parts of the noise of philox.py that every machine computes to the same bit: random integers as uniforms, and the
 * sums around the normals. Logarithm, root, sine and cosine stay torch's own, whose last bits no other library has.
 * Compiled without contraction of products and sums: each is rounded, as torch rounds it.
 */
#include <stddef.h>
#include <stdint.h>

#define ROUNDS 10
#define GROUP 16 /* counter blocks made together */
#define WORDS 8  /* of 32 bits in a block */

static const uint64_t MULTIPLIER[2] = {0xD2E7470EE14C6C93u, 0xCA5A826395121157u};
static const uint64_t WEYL[2] = {0x9E3779B97F4A7C15u, 0xBB67AE8584CAA73Bu};

#if defined(__AVX512F__) && defined(__AVX512DQ__)
#include <immintrin.h>

/* Eight counters side by side. A compiler that is left to vectorise 64-bit products takes three times the instructions. */
#define LANES 8
#define SETS (GROUP / LANES)

static inline __m512i product(__m512i a, uint64_t m, __m512i *low)
{
    __m512i m0 = _mm512_set1_epi64((long long)m), m1 = _mm512_set1_epi64((long long)(m >> 32));
    __m512i a1 = _mm512_srli_epi64(a, 32), p00 = _mm512_mul_epu32(a, m0); /* of low halves: no mask is needed */
    __m512i middle = _mm512_add_epi64(_mm512_mul_epu32(a1, m0), _mm512_srli_epi64(p00, 32)); /* at most 2^64 - 2^32 */
    __m512i cross = _mm512_add_epi64(_mm512_mul_epu32(a, m1), _mm512_and_si512(middle, _mm512_set1_epi64(0xFFFFFFFF)));
    *low = _mm512_mask_shuffle_epi32(p00, 0xAAAA, cross, _MM_PERM_CCAA);
    __m512i high = _mm512_add_epi64(_mm512_mul_epu32(a1, m1), _mm512_srli_epi64(middle, 32));
    return _mm512_add_epi64(high, _mm512_srli_epi64(cross, 32));
}

#define XOR(a, b, c) _mm512_ternarylogic_epi64(a, b, c, 0x96)

static void make(uint64_t first, uint64_t draw, uint64_t k0, uint64_t k1, float *out)
{
    const __m512i lane_counters = _mm512_set_epi64(7, 3, 6, 2, 5, 1, 4, 0); /* as the words are put in order below */
    __m512i c0[SETS], c1[SETS], c2[SETS], c3[SETS];
    for (int s = 0; s < SETS; s++) {
        c0[s] = _mm512_add_epi64(_mm512_set1_epi64((long long)(first + (uint64_t)(s * LANES))),
                                 lane_counters);
        c2[s] = _mm512_set1_epi64((long long)draw);
        c1[s] = c3[s] = _mm512_setzero_si512();
    }
    for (int r = 0; r < ROUNDS; r++) {
        __m512i key0 = _mm512_set1_epi64((long long)k0), key1 = _mm512_set1_epi64((long long)k1);
        for (int s = 0; s < SETS; s++) {
            __m512i low0, low1;
            __m512i high0 = product(c0[s], MULTIPLIER[0], &low0), high1 = product(c2[s], MULTIPLIER[1], &low1);
            c0[s] = XOR(high1, c1[s], key0);
            c2[s] = XOR(high0, c3[s], key1);
            c1[s] = low1;
            c3[s] = low0;
        }
        k0 += WEYL[0];
        k1 += WEYL[1];
    }
    /* Two blocks a vector, each of words of c0, c1, c2 and c3. */
    const __m512i pair[2] = {_mm512_set_epi64(11, 10, 3, 2, 9, 8, 1, 0), _mm512_set_epi64(15, 14, 7, 6, 13, 12, 5, 4)};
    for (int s = 0; s < SETS; s++) {
        __m512i front[2] = {_mm512_unpacklo_epi64(c0[s], c1[s]), _mm512_unpackhi_epi64(c0[s], c1[s])};
        __m512i back[2] = {_mm512_unpacklo_epi64(c2[s], c3[s]), _mm512_unpackhi_epi64(c2[s], c3[s])};
        for (int i = 0; i < 4; i++, out += 2 * WORDS)
            _mm512_storeu_ps(
                out, _mm512_cvtepu32_ps(_mm512_permutex2var_epi64(front[i / 2], pair[i % 2], back[i / 2])));
    }
}
#else
static void make(uint64_t first, uint64_t draw, uint64_t k0i, uint64_t k1i, float *out)
{
    for (int b = 0; b < GROUP; b++, out += WORDS) {
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
        uint64_t words[4] = {c0, c1, c2, c3};
        for (int i = 0; i < WORDS; i++) /* the low half of a 64-bit word first, on every machine */
            out[i] = (float)(uint32_t)(words[i / 2] >> (32 * (i % 2)));
    }
}
#endif

/* Radii's uniforms and angles, (copies, 8 * half) each: a copy's first `half` counter blocks, and its second. */
void uniforms(float *radius, float *angle, uint64_t first, size_t copies, size_t half, uint64_t draw, uint64_t k0,
              uint64_t k1, float step, float offset, float turn)
{
    size_t blocks = 2 * half * copies, within = 0; /* of the copy in hand */
    for (size_t done = 0; done < blocks; done += GROUP) {
        float words[WORDS * GROUP];
        size_t there = blocks - done < GROUP ? blocks - done : GROUP;
        make(first + done, draw, k0, k1, words);
        for (size_t b = 0; b < there; b++) {
            const float *block = words + WORDS * b;
            if (within < half) {
                for (int i = 0; i < WORDS; i++) radius[i] = block[i] * step + offset;
                radius += WORDS;
            } else {
                for (int i = 0; i < WORDS; i++) angle[i] = block[i] * turn;
                angle += WORDS;
            }
            within = within + 1 == 2 * half ? 0 : within + 1;
        }
    }
}

/* Radii times cosines, then times sines, into each copy's halves; times sigma, plus pixels, where there are any. */
void normals(float *restrict out, const float *restrict radius, const float *restrict cosine,
             const float *restrict sine, const float *restrict pixels, float sigma, size_t copies, size_t half)
{
    for (size_t c = 0; c < copies; c++) {
        for (size_t i = 0; i < half; i++) {
            float first = radius[i] * cosine[i], second = radius[i] * sine[i];
            out[i] = pixels ? first * sigma + pixels[i] : first;
            out[half + i] = pixels ? second * sigma + pixels[half + i] : second;
        }
        out += 2 * half;
        radius += half;
        cosine += half;
        sine += half;
    }
}
