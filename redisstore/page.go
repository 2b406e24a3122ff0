package redisstore

// luaPage defines page, which reads entries of a stream with XRANGE or XREVRANGE, at
// most `most` of them, and ends before they are more bytes by `size`. It returns at
// least one if there is one, and whether the bytes ended it. Only as many as are likely
// to fit are read at a time: Redis copies all that it reads.
const luaPage = `
local function page(range, stream, from, to, most, bytes, size)
	local entries, n, largest = {}, 1, 1
	while #entries < most do
		local read = redis.call(range, stream, from, to, 'COUNT', n)
		for _, entry in ipairs(read) do
			local s = size(entry)
			if s > bytes and #entries > 0 then return entries, true end
			entries[#entries+1] = entry
			bytes, largest = bytes - s, math.max(largest, s)
		end
		if #read < n then return entries, false end
		from = '(' .. read[n][1]
		n = math.max(1, math.min(16, most - #entries, math.floor(bytes / largest)))
	end
	return entries, false
end
`

// luaDecoded defines decoded, the bytes that a frame takes once it is decoded: those
// that stand before its body if that is compressed, a varint (see core/frame), and no
// less than it takes itself.
const luaDecoded = `
local function decoded(frame)
	if #frame < 7 or string.byte(frame, 2) % 2 == 0 then return #frame end
	local bytes, unit = 0, 1
	for i = 7, math.min(#frame, 11) do
		local b = string.byte(frame, i)
		bytes = bytes + b % 128 * unit
		if b < 128 then break end
		unit = unit * 128
	end
	return math.max(bytes, #frame)
end
`
